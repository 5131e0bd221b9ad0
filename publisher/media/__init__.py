"""Media looked at where Meta would fetch them, before anything costs quota.

    client.py     fetches the beginning of a file, or all of it
      |- facts.py    what a file says of itself
      |- rules.py    what Meta asks of it, a row for each property

What reads the network is `client` alone; the other two are pure.
"""
