"""The page at `/`: what a person wants to see of the sandbox, rendered here, with no script and nothing from elsewhere.

    markup.py      elements that escape what they hold
    sections.py    world, journal and faults as elements
    page.py        the whole page, its style and the forms on it

A browser gets the page where any other client gets Graph's answer to a call without a token: it asks for HTML.
"""
