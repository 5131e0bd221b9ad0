-- A list around a medium, a kind, a URL or a user passed for what is in it: JSON paths are lax, and see through lists.
-- What is there already is not looked at: it was dead when it was to be published.

alter table social.content_variants
  drop constraint a_listed_medium_has_a_kind_and_an_http_url,
  add constraint a_listed_medium_has_a_kind_and_an_http_url check (
    case
      when jsonb_typeof(media) = 'array' then jsonb_array_length(media) = jsonb_array_length(jsonb_path_query_array(
        media, 'strict $[*] ? ((@.kind == "image" || @.kind == "video") && @.url like_regex "^https?://[!-~]+$")'
      ))
      else media is null
    end
  ) not valid,
  drop constraint user_tags_name_users,
  add constraint user_tags_name_users check (
    case
      when jsonb_typeof(user_tags) = 'array' then
        jsonb_array_length(user_tags)
        = jsonb_array_length(jsonb_path_query_array(user_tags, 'strict $[*] ? (@.username like_regex "^[^@ ]+$")'))
      else user_tags is null
    end
  ) not valid;
