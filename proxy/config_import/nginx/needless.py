"""Directives that need no counterpart, because the server does by itself what they ask for, or has
nothing that they could turn. Pure."""

from __future__ import annotations

from ..word_lists import words

# Processes, sockets, buffers, caches of descriptors: ours to decide.
_MACHINERY = frozenset(
    words(
        """
    accept_mutex aio aio_write daemon debug_connection default_type directio env events
    error_log gzip_buffers gzip_disable gzip_http_version gzip_vary
    http2_max_concurrent_streams http2_max_field_size http2_max_header_size
    http2_recv_timeout http2_idle_timeout ignore_invalid_headers include keepalive
    keepalive_disable keepalive_requests keepalive_time keepalive_timeout
    large_client_header_buffers lingering_close lingering_time lingering_timeout load_module
    log_format log_not_found log_subrequest map_hash_bucket_size map_hash_max_size
    master_process max_ranges merge_slashes multi_accept open_file_cache
    open_file_cache_errors open_file_cache_min_uses open_file_cache_valid output_buffers
    pcre_jit pid postpone_output port_in_redirect proxy_headers_hash_bucket_size
    proxy_headers_hash_max_size quic_retry recursive_error_pages reset_timedout_connection
    resolver resolver_timeout rewrite_log send_lowat sendfile sendfile_max_chunk
    server_name_in_redirect server_names_hash_bucket_size server_names_hash_max_size
    server_tokens subrequest_output_buffer_size tcp_nodelay tcp_nopush thread_pool types
    types_hash_bucket_size types_hash_max_size underscores_in_headers use
    variables_hash_bucket_size variables_hash_max_size worker_aio_requests
    worker_connections worker_cpu_affinity worker_priority worker_processes
    worker_rlimit_core worker_rlimit_nofile worker_shutdown_timeout working_directory
    absolute_redirect access_log client_body_buffer_size client_body_in_file_only
    client_body_temp_path client_body_timeout client_header_buffer_size
    client_header_timeout send_timeout connection_pool_size request_pool_size etag
    if_modified_since msie_padding msie_refresh chunked_transfer_encoding http2 http3
    http3_hq break charset charset_types source_charset override_charset server_name listen
    limit_req_log_level limit_conn_log_level limit_req_dry_run gzip_window
    mirror_request_body
    """
    )
)
# How a backend is spoken to: answers stream, WebSockets pass, connections are kept.
_PROXYING = frozenset(
    words(
        """
    proxy_buffer_size proxy_buffering proxy_buffers proxy_busy_buffers_size proxy_bind
    proxy_http_version proxy_request_buffering proxy_send_timeout proxy_socket_keepalive
    proxy_max_temp_file_size proxy_temp_path proxy_temp_file_write_size proxy_next_upstream
    proxy_next_upstream_timeout proxy_next_upstream_tries proxy_ssl_protocols
    proxy_ssl_ciphers proxy_ssl_session_reuse proxy_ssl_verify_depth proxy_force_ranges
    proxy_limit_rate proxy_pass_request_headers proxy_pass_request_body proxy_cache_bypass
    proxy_no_cache fastcgi_buffers fastcgi_buffer_size fastcgi_buffering
    fastcgi_busy_buffers_size fastcgi_index fastcgi_keep_conn fastcgi_split_path_info
    fastcgi_connect_timeout fastcgi_send_timeout fastcgi_request_buffering
    fastcgi_max_temp_file_size fastcgi_temp_path fastcgi_temp_file_write_size
    fastcgi_ignore_client_abort proxy_ignore_client_abort grpc_send_timeout grpc_buffer_size
    grpc_socket_keepalive
    """
    )
)
# TLS: versions before 1.2, and ciphers without forward secrecy, are not offered; tickets, OCSP and
# Diffie-Hellman groups are chosen by the program.
_TLS = frozenset(
    words(
        """
    ssl ssl_buffer_size ssl_ciphers ssl_conf_command ssl_dhparam ssl_early_data
    ssl_ecdh_curve ssl_ocsp ssl_ocsp_cache ssl_prefer_server_ciphers ssl_session_cache
    ssl_session_ticket_key ssl_session_tickets ssl_session_timeout ssl_stapling
    ssl_stapling_file ssl_stapling_responder ssl_stapling_verify ssl_trusted_certificate
    ssl_verify_depth ssl_reject_handshake
    """
    )
)
NEEDLESS = _MACHINERY | _PROXYING | _TLS

# What FastCGI parameters every server tells.
FASTCGI_PARAMS = frozenset(
    words(
        """
    SCRIPT_FILENAME QUERY_STRING REQUEST_METHOD CONTENT_TYPE CONTENT_LENGTH SCRIPT_NAME
    REQUEST_URI DOCUMENT_URI DOCUMENT_ROOT SERVER_PROTOCOL REQUEST_SCHEME HTTPS
    GATEWAY_INTERFACE SERVER_SOFTWARE REMOTE_ADDR REMOTE_PORT REMOTE_USER SERVER_ADDR
    SERVER_PORT SERVER_NAME REDIRECT_STATUS PATH_INFO PATH_TRANSLATED HTTP_PROXY AUTH_TYPE
    HTTP_HOST
    """
    )
)

WHY = {
    "proxy_cache": "answers of backends are not kept here",
    "proxy_cache_path": "answers of backends are not kept here",
    "proxy_cache_valid": "answers of backends are not kept here",
    "fastcgi_cache": "answers of backends are not kept here",
    "proxy_redirect": "Location fields of backends are passed on as they are",
    "proxy_cookie_path": "cookies of backends are passed on as they are",
    "proxy_cookie_domain": "cookies of backends are passed on as they are",
    "sub_filter": "bodies are changed by a filter in Python (use)",
    "limit_conn": "connections are limited for the whole server: limits.connections_per_address",
    "limit_conn_zone": "connections are limited for the whole server",
    "limit_rate": "no response is slowed down here",
    "secure_link": "this is a filter in Python (use); docs/filters.md has such a one",
    "geo": "networks stand in allow, deny and match.from",
    "split_clients": "weights of backends are the only shares there are",
    "mirror": "no request is sent twice",
    "dav_methods": "files are not written here; put a WebDAV server behind it",
    "ssi": "pages are sent as they are",
    "perl": "this is a filter in Python (use)",
    "stream": "TCP and UDP are not passed on, only HTTP",
    "mail": "mail is not passed on, only HTTP",
    "uwsgi_pass": "backends speak HTTP; start uWSGI with --http-socket",
    "scgi_pass": "backends speak HTTP or FastCGI",
    "memcached_pass": "backends speak HTTP or FastCGI",
    "stub_status": "the figures are /metrics: admin: {listen: 127.0.0.1:2020}",
    "if": "this condition has no counterpart in match",
    "map": "the variable that it makes has no counterpart",
    "ssl_crl": "revoked client certificates are not looked up",
    "proxy_ssl_certificate": "backends are not shown a certificate",
    "proxy_ssl_certificate_key": "backends are not shown a certificate",
    "auth_jwt": "this is a filter in Python (use), or forward_auth",
}
