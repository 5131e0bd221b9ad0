"""A simulator of the parts of Meta's Graph API that publish stories.

Real HTTP on one port, state in memory, Meta's answers and error bodies, tokens checked before the path,
containers that take time, quotas, usage headers, scripted faults, and a count of what really went live.

    async with serve(SandboxSettings(port=0)) as sandbox:      # publisher.sandbox.server, .settings
        sandbox.url, sandbox.port

Point a client at `sandbox.url`. All Graph paths take an optional `/vNN.N` first; parameters come from the
query, a form, multipart or JSON; the token as `access_token` or `Authorization: Bearer`.

Graph calls, by the names that faults and counts use:

    create_container      POST /{ig-id}/media  media_type=STORIES, image_url | video_url
    container_status      GET  /{container-id}
    publish_container     POST /{ig-id}/media_publish  creation_id
    publishing_limit      GET  /{ig-id}/content_publishing_limit
    list_stories          GET  /{ig-id | page-id}/stories
    read_media            GET  /{media-id}
    upload_photo          POST /{page-id}/photos  url | source, published=false
    publish_photo_story   POST /{page-id}/photo_stories  photo_id
    start_video_story     POST /{page-id}/video_stories  upload_phase=start
    upload_video          POST {upload_url}  headers file_url | offset, file_size
    video_status          GET  /{video-id}?fields=status
    finish_video_story    POST /{page-id}/video_stories  upload_phase=finish, video_id
    read_photo            GET  /{photo-id}
    read_post             GET  /{story-post-id}
    read_account          GET  /{ig-id | page-id}
    delete_object         DELETE /{id}  (always refused, each kind in its own words)
    debug_token           GET  /debug_token  input_token

The control API: JSON both ways, no token, errors as `{"error": "one sentence"}` with 400 or 404.

    POST  /_sandbox/accounts {platform, name, id?, token?, quota_total?}   the account, with its token
    GET   /_sandbox/accounts                  {"accounts": [...]}
    GET   /_sandbox/accounts/{id}
    PATCH /_sandbox/accounts/{id} {name?, token?, token_state?, quota_total?, usage?}
          token_state: valid, expired, password_changed, unconfirmed, role_lost
    GET, PATCH, PUT /_sandbox/settings        the fields of `settings.Switches`; a change names only its own
    POST  /_sandbox/faults                    the fields of `faults.FaultSpec`; the answer has "id"
          endpoint, account?, media? (part of the media's URL), skip=0, times=1 (null: always),
          action: error | apply_then_error | apply_then_drop | drop | delay | pause_before | pause_after,
          status?, code?, subcode?, message?, type?, is_transient?, body?, delay_seconds=0, usage?, app_usage?
    GET   /_sandbox/faults                    {"faults": [...]}, each with "hits" and "held"
    GET, DELETE /_sandbox/faults/{id};  DELETE /_sandbox/faults
    GET   /_sandbox/faults/{id}/hit?timeout=30&hits=1    waits; {"hit": true | false, ...}
    POST  /_sandbox/faults/{id}/resume {drop=false, apply=true}    {"resumed": n}: the calls held now
    GET   /_sandbox/live?media=&account=&rows=false      {"count": n, "live": [...]}, one row a post
    GET   /_sandbox/requests?endpoint=&account=          {"requests": [...]}, tokens redacted
    GET   /_sandbox/counts                    {"counts": {endpoint: calls}}
    GET   /_sandbox/clock; POST /_sandbox/clock {advance_seconds}
    POST  /_sandbox/reset {accounts=false, settings=false}
    GET   /_sandbox/health

A known error needs only `code` (and `subcode`) in a fault: its words, status and type are filled in. With
neither `code` nor `body` a fault answers HTTP 500 code 2. `delay` waits before the change, which is then made
even if the client has gone; `delay` of 0 seconds with `usage` only changes the usage header.
"""
