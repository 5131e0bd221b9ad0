"""A simulator of the parts of Meta's Graph API that publish to Instagram and to Facebook Pages.

Real HTTP on one port, Meta's answers and error bodies, tokens checked before the path, containers that take time,
quotas, usage headers, faults, and a count of what really went live.

    async with serve(SandboxSettings(port=0)) as sandbox:      # publisher.sandbox.server, .settings
        sandbox.url, sandbox.port

Point a client at `sandbox.url`. All of Meta's hosts are served there; a call may name its host in the Host header
or first in the path (`/graph.instagram.com/v25.0/me`), and then only that host's tokens work. All Graph paths take
an optional `/vNN.N`; parameters come from the query, a form, multipart or JSON; the token as `access_token` or
`Authorization: Bearer`. `me` is the token's owner.

    request -> hosts -> parameters -> tokens -> calls -> faults -> operations -> objects
               which    wherever     before    which    or none   instagram_,   in the world
               host     they stand   the path  endpoint           page_, shared_

A browser gets a page at `/` (`front`). State is in memory, or in a file (`state`).

Graph calls, by the names that faults and counts use:

    Instagram
    create_container      POST /{ig-id}/media  stories, feed images, reels, carousels and their items; by URL or
                                               upload_type=resumable
    upload_container      POST {uri}  headers file_url | offset, file_size
    container_status      GET  /{container-id}
    publish_container     POST /{ig-id}/media_publish  creation_id
    publishing_limit      GET  /{ig-id}/content_publishing_limit
    list_media            GET  /{ig-id}/media  (without stories)
    read_media            GET  /{media-id}
    list_children         GET  /{media-id}/children
    refresh_token         GET  /refresh_access_token  grant_type=ig_refresh_token

    Pages
    upload_photo          POST /{page-id}/photos  url | source, published=false
    publish_photo         POST /{page-id}/photos  url | source, caption, alt_text_custom
    publish_photo_story   POST /{page-id}/photo_stories  photo_id
    create_post           POST /{page-id}/feed  message, link, attached_media[n], scheduled_publish_time
    start_video_story     POST /{page-id}/video_stories  upload_phase=start
    finish_video_story    POST /{page-id}/video_stories  upload_phase=finish, video_id
    start_reel            POST /{page-id}/video_reels  upload_phase=start
    finish_reel           POST /{page-id}/video_reels  upload_phase=finish, video_id, video_state, description
    upload_video          POST {upload_url}  headers file_url | offset, file_size
    create_video          POST /{page-id}/videos  file_url | source, description, title
    start_video, transfer_video, finish_video          the same in chunks, by upload_phase
    video_status          GET  /{video-id}?fields=status
    list_feed             GET  /{page-id}/feed
    list_published_posts  GET  /{page-id}/published_posts
    list_reels            GET  /{page-id}/video_reels
    read_photo            GET  /{photo-id}
    read_post             GET  /{post-id}

    both
    list_stories          GET  /{ig-id | page-id}/stories
    read_account          GET  /{ig-id | page-id | me}
    delete_object         DELETE /{id}  (always refused, each kind in its own words)
    read_user             GET  /me  (of a User token)
    list_accounts         GET  /me/accounts
    exchange_token        GET  /oauth/access_token  grant_type=fb_exchange_token
    debug_token           GET  /debug_token  input_token
    batch                 POST /  batch=[...]  (a count only: faults hit the calls in it)

The control API: JSON both ways, no token, errors as `{"error": "one sentence"}` with 400 or 404.

    POST  /_sandbox/accounts {platform, name, id?, token?, quota_total?, login?}   the account, with its token;
          login: facebook (default), or instagram: a token for graph.instagram.com
    POST  /_sandbox/users {name, accounts, token?, long_lived?}            a person, with a User token
    GET   /_sandbox/accounts                  {"accounts": [...]}
    GET   /_sandbox/accounts/{id}
    PATCH /_sandbox/accounts/{id} {name?, token?, token_state?, quota_total?, usage?, missing_scopes?}
          token_state: valid, expired, password_changed, unconfirmed, role_lost; missing_scopes: permissions that the
          token lacks, as debug_token tells
    GET, PATCH, PUT /_sandbox/settings        the fields of `settings.Switches`; a change names only its own
    POST  /_sandbox/faults                    the fields of `faults.FaultSpec`; the answer has "id"
          endpoint, account?, media? (part of the media's URL, of a link, of a text), skip=0, times=1 (null: always),
          action: error | apply_then_error | apply_then_drop | drop | delay | pause_before | pause_after |
                  fail_media (it is taken, and fails later with `subcode`: create_container, upload_*),
          status?, code?, subcode?, message?, type?, is_transient?, body?, delay_seconds=0, usage?, app_usage?
    GET   /_sandbox/faults                    {"faults": [...]}, each with "hits" and "held"; "random": how many of each
    GET, DELETE /_sandbox/faults/{id};  DELETE /_sandbox/faults
    GET   /_sandbox/faults/{id}/hit?timeout=30&hits=1    waits; {"hit": true | false, ...}
    POST  /_sandbox/faults/{id}/resume {drop=false, apply=true}    {"resumed": n}: the calls held now
    GET   /_sandbox/live?media=&account=&rows=false      {"count": n, "live": [...]}, one row a post;
          kind: photo_story, video_story, feed_photo, feed_carousel, feed_video, feed_text, reel
    GET   /_sandbox/requests?endpoint=&account=          {"requests": [...]}, tokens redacted
    GET   /_sandbox/counts                    {"counts": {endpoint: calls}, "cpu_seconds": of its process}
    GET   /_sandbox/clock; POST /_sandbox/clock {advance_seconds}
    POST  /_sandbox/reset {accounts=false, settings=false}
    GET   /_sandbox/health

A known error needs only `code` (and `subcode`) in a fault: its words, status and type are filled in. With
neither `code` nor `body` a fault answers HTTP 500 code 2. `delay` waits before the change, which is then made
even if the client has gone; `delay` of 0 seconds with `usage` only changes the usage header.

Random faults are the setting `chances` (`chances.Chances`): a seed, and for each mishap its probability. The same
seed gives the same endpoint's n-th call the same mishap: refused, limited, dropped, denied, lost, delayed, garbled,
unready, unreadable, unreached, spoiled. Scripted faults come first. `reset` begins them anew.
"""
