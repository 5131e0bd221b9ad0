"""What a Facebook Page publishes.

    post.py             what all its posts and their parts have in common
      |- photos.py      unpublished photos, and the post of them
      |- stories.py     a photo or a video as a story
      |- text.py        a text or a link
      |- videos.py      videos and their uploads; reels and videos in the feed
      |    |- video_status.py    pure: how far a video is
      v
    account.py          the Page itself, and what its lists show

All but a text has a handle before the call that can't be taken back (sheet 6.3): a photo, a video.
"""
