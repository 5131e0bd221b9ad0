"""Media looked at where Meta would fetch them, before anything costs quota.

    client.py     fetches the beginning of a file, or all of it
      |- facts.py    what a file says of itself
      |- rules.py    what Meta asks of it, a row for each property
      |- turns.py    whose turn it is at a host

What reads the network is `client` alone; facts and rules are pure.
"""
