"""Tests of the Graph API sandbox."""
