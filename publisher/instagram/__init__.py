"""What an Instagram professional account publishes: stories, feed images, carousels, reels.

    POST /{account}/media             -> container    Meta fetches an image now, a video later; or we send its bytes
    GET  /{container}                 -> IN_PROGRESS, FINISHED, PUBLISHED, ERROR, EXPIRED
    POST /{account}/media_publish     -> media        irreversible
    GET  /{account}/stories           -> live stories, without a word on containers
    GET  /{account}/media             -> all else, newest first, without a word on containers either

(Meta: Content Publishing guide.) `posts.py` has a post and the lists that show it, `containers.py` one container,
`account.py` who publishes.
"""
