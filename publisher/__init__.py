"""From an event to Meta and back to an outcome: posts on Instagram and on Facebook Pages, each published once.

    handler.py                 variant.created -> Outcome; the border where the payload is checked
      |- variants.py           reads the variant by its primary key; tells what a miss looked like
      |    |- together.py      one statement for all who ask; allowance.py has it, too
      |- refusal.py            pure: what makes a variant unfit, or not yet due; texts.py what Instagram would refuse
      |- placements.py         pure: from a variant to its placement; the table of all of them
      |- tokens.py             the key ring for access tokens at rest
      |- meter.py              how near accounts and app are to their call limits; shared through social.usage
      |    |- usage.py         pure: what the usage headers say
      v
    saga.py                    the pipeline: prepare, look, intent, call, done; or reconcile
      |- preparation.py        what can be repeated: media that fit, parts that are made, sent and ready
      |    |- media/           fetches the beginning of a medium, reads it, judges it
      |- allowance.py          what an account may still publish in 24 hours, and when the next one may be
      |- trail.py              what the steps so far say
      |- looker.py             looks what became of a call, and keeps what it found
      |- reconcile.py          pure: from evidence to live, absent, undecided, person
      |- limits.py             pure: from an error to a hold, a retry, an end
      v
    placement.py               what a placement can do: its parts, publish, look
      |- instagram/            containers: story, feed, carousel, reel
      |- page/                 a Page's stories, photos, videos, reels, texts and links
      |- uploads.py            pure: how far a video's bytes have arrived
      v
    edges.py                   a list, read to its end
      v
    graph.py                   one HTTP call: an answer, an error, or no answer
      |- envelope.py           pure: what an answer holds
      |- forwarding.py         a medium's bytes on their way: whose failure it is when they stop
      |- breaker.py            pure: when a host that answers nobody is called again
      |- reactions.py          pure: from (code, subcode) to a decision; error_table.py holds the rows

    refresher.py, gauges.py    beside the handler: tokens refreshed before they expire; accounts counted by state
    finder.py                  beside it too: which post a success became, where no answer named it
    verifier.py                looks, after a restore, for what the log has forgotten
      |- verify.py             pure: from what is live to a verdict
    accounts.py                what the command line does with accounts; inspection.py asks what a token is good for
    sandbox/                   a Graph API simulator; knows Meta's documents, not this client for them

The rule above all others: `media_publish`, `photo_stories`, `feed`, and `finish` of `video_stories`, `video_reels` and
`videos` can't be taken back and take no idempotency key. Each is preceded by a durable intent, and any answer but a
definite refusal is followed by looking, never by a repeated call.
"""
