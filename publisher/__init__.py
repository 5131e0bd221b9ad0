"""From an event to Meta and back to an outcome: stories on Instagram and on Facebook Pages, each published once.

    handler.py                 variant.created -> Outcome; the border where the payload is checked
      |- variants.py           reads the variant by its primary key; tells what a miss looked like
      |- tokens.py             the key ring for access tokens at rest
      v
    saga.py                    the pipeline: prepare, wait, look, intent, call, done; or reconcile
      |- trail.py              what the steps so far say
      |- reconcile.py          pure: from evidence to live, absent, undecided, person
      |- verify.py             pure: the same after a restore, for what the log has forgotten
      |- limits.py             pure: from an error to a hold, a retry, an end
      v
    story.py                   what a story of any kind can do
      |- instagram.py          image and video stories of professional accounts
      |- facebook.py           photo and video stories of Pages
      v
    edges.py                   a list, read to its end
      v
    graph.py                   one HTTP call: an answer, an error, or no answer
      |- reactions.py          pure: from (code, subcode) to a decision; error_table.py holds the rows

    accounts.py                what the command line does with accounts
    sandbox/                   a Graph API simulator; knows Meta's documents, not this client for them

The rule above all others: `media_publish`, `photo_stories` and `video_stories` with `finish` can't be taken back and
take no idempotency key. Each is preceded by a durable intent, and any answer but a definite refusal is followed by
looking, never by a repeated call.
"""
