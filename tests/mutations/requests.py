"""Guards of requests: bodies, forms, sessions, texts, what is told of errors."""

from __future__ import annotations

from tests.mutations.guard import Guard

_EDGE = "deployments/http/edge.py"
_BODIES = "deployments/http/bodies"
_SESSION = "deployments/http/sessions/session.py"
_T_EDGE = "deployments/http/test_edge.py"
_T_MEMORY = "deployments/http/bodies/test_memory.py"
_T_PAGE = "deployments/http/ui/test_page.py"
_T_SESSION = "deployments/http/sessions/test_session.py"
_T_MISTAKES = "deployments/http/sessions/test_mistakes.py"

GUARDS = (
    Guard(
        "no stranger has the service trace him",
        "deployments/telemetry/tracing/tracer.py",
        "if self._follows else None",
        "",
        (
            "deployments/telemetry/tracing/test_tracing.py"
            "::test_a_share_of_requests_is_traced_and_no_stranger_chooses_his",
        ),
    ),
    Guard(
        "a declared body over the limit is not read",
        _EDGE,
        "if declared.isdecimal() and int(declared) > self._max_body_bytes:",
        "if False:",
        ("deployments/http/test_edge_bounds.py::test_a_declared_body_over_the_limit_is_not_begun",),
    ),
    Guard(
        "a body without a declared length is cut at the limit",
        _EDGE,
        "        if self._left_bytes < 0:\n            raise _BodyTooLargeError",
        "        if self._left_bytes < 0:\n            pass",
        (f"{_T_EDGE}::test_a_body_over_the_limit_has_them_too",),
    ),
    Guard(
        "the rest of a refused body is read up to a bound",
        "deployments/http/bodies/rest.py",
        "while has_more and most_bytes > 0:",
        "while has_more:",
        (f"{_T_EDGE}::test_a_client_may_finish_sending_what_is_refused",),
    ),
    Guard(
        "a router works at so many requests",
        "deployments/stages/room.py",
        "if self._taken >= self._limit:",
        "if False:",
        (f"{_T_EDGE}::test_a_full_router_refuses_work_and_still_answers_probes",),
    ),
    Guard(
        "a router has so many sessions open",
        _EDGE,
        "            with self._socket_room.taken():\n"
        "                await self._app(scope, receive, socket.send)",
        "            await self._app(scope, receive, socket.send)",
        (f"{_T_SESSION}::test_sessions_are_bounded_and_requests_go_on",),
    ),
    Guard(
        "bodies of all requests fit a budget",
        f"{_BODIES}/budget.py",
        "if self.held_bytes + n_bytes > self._limit_bytes:",
        "if False:",
        (f"{_T_MEMORY}::test_beyond_the_budget_a_body_is_told_to_come_again",),
    ),
    Guard(
        "declared bytes count before they come",
        f"{_BODIES}/read.py",
        "    hold.cover(int(declared) if declared.isdecimal() else 0)\n",
        "",
        (f"{_T_MEMORY}::test_declared_bytes_are_counted_before_any_comes",),
    ),
    Guard(
        "undeclared bytes count as they come",
        f"{_BODIES}/read.py",
        "            hold.cover(len(content) + len(piece))\n",
        "",
        (f"{_T_MEMORY}::test_undeclared_bytes_are_counted_as_they_come",),
    ),
    Guard(
        "no body is inflated",
        f"{_BODIES}/read.py",
        'if coding not in {"", "identity"}:',
        "if False:",
        ("deployments/http/bodies/test_read.py::TestLabels::test_a_compressed_body_is_called_so",),
    ),
    Guard(
        "a form has so many parts",
        f"{_BODIES}/forms.py",
        "if len(parts) == MAX_PARTS:",
        "if False:",
        ("deployments/http/bodies/test_form_limits.py::test_a_form_has_so_many_parts",),
    ),
    Guard(
        "an urlencoded form has so many fields",
        f"{_BODIES}/forms.py",
        ", max_num_fields=MAX_PARTS",
        "",
        ("deployments/http/bodies/test_form_limits.py::test_an_urlencoded_form_has_as_many",),
    ),
    Guard(
        "an address in place of a clip is not fetched",
        f"{_BODIES}/clip_text.py",
        "if _ADDRESS.match(text):",
        "if False:",
        ("deployments/http/bodies/test_clip_text.py::test_addresses_are_not_fetched",),
    ),
    Guard(
        "charsets are looked up in a list",
        f"{_BODIES}/json_text.py",
        'return name if name in LEGACY_CHARSETS else "utf-8"',
        "return name",
        ("deployments/http/bodies/test_form_limits.py::test_a_charset_is_one_of_a_few",),
    ),
    Guard(
        "a charset's name is no way to fail",
        f"{_BODIES}/json_text.py",
        "except (LookupError, ValueError):  # ValueError: a NUL in its name",
        "except LookupError:",
        ("fuzz/test_corpus.py::test_a_kept_input_is_read_or_refused",),
    ),
    Guard(
        "an uploaded clip has a size",
        f"{_BODIES}/uploads.py",
        "if len(content) > limit_bytes:",
        "if False:",
        ("deployments/http/bodies/test_uploads.py::test_a_clip_has_a_size",),
    ),
    Guard(
        "a caller's request id is clean",
        "deployments/http/request_id.py",
        'kept = "".join(char for char in given or "" if char in _ALPHABET)',
        'kept = given or ""',
        (
            f"{_T_EDGE}::test_callers_ids_are_bounded_and_clean",
            f"{_T_EDGE}::test_a_proxy_hears_of_clean_ids_only",
        ),
    ),
    Guard(
        "a caller's request id is short",
        "deployments/http/request_id.py",
        "return kept[:REQUEST_ID_CHARS] or",
        "return kept or",
        (f"{_T_EDGE}::test_callers_ids_are_bounded_and_clean",),
    ),
    Guard(
        "metadata that comes back in headers is plain",
        "deployments/http/dialects/predecessor.py",
        "is_plain = said.isascii() and said.isprintable() and len(said) <= MAX_ECHO_CHARS",
        "is_plain = len(said) <= MAX_ECHO_CHARS",
        ("deployments/http/bodies/test_predecessor.py::test_metadata_comes_back_in_headers",),
    ),
    Guard(
        "clients read no internals of what nobody foresaw",
        "deployments/http/errors.py",
        'message = f"something went wrong inside; request id {request_id}"',
        'message = f"{error!r}; request id {request_id}"',
        (
            "deployments/http/test_errors.py::test_clients_read_no_internals_and_the_log_has_them",
            f"{_T_EDGE}::test_what_nobody_foresaw_is_hidden_logged_and_does_not_escape",
        ),
    ),
    Guard(
        "the log of a refusal quotes no caller",
        "deployments/telemetry/logs.py",
        "record.exc_info = record.exc_text = None",
        "record.exc_text = None",
        ("deployments/telemetry/test_logs.py::test_a_refusal_is_one_line",),
    ),
    Guard(
        "web pages of other origins open no session",
        "deployments/http/routes/websocket.py",
        'return urlsplit(origin).netloc == headers.get("host")',
        "return True",
        (f"{_T_SESSION}::test_pages_of_other_origins_are_let_in_as_the_settings_say",),
    ),
    Guard(
        "web pages of other origins read no reply",
        "deployments/http/ingress.py",
        "allow_origins=settings.http.cors_origins,",
        'allow_origins=["*"],',
        ("deployments/http/routes/test_speech.py::TestCors::test_pages_named_in_the_settings_are",),
    ),
    Guard(
        "a session's message has a size",
        "deployments/http/sessions/messages.py",
        "    if len(content) > most_bytes:\n"
        "        raise _too_large(str(kind), len(content), most_bytes)\n",
        "",
        ("deployments/http/sessions/test_messages.py::test_a_message_has_a_size_by_its_kind",),
    ),
    Guard(
        "a session of mistakes ends",
        _SESSION,
        "return MISTAKES if self._n_mistakes >= self._limits.max_mistakes else None",
        "return None",
        (f"{_T_MISTAKES}::test_too_many_mistakes_end_a_session",),
    ),
    Guard(
        "a session nobody uses ends",
        _SESSION,
        "left_s = min(left_s, self._wire.active_s + self._limits.idle_timeout_s - now_s)",
        "left_s = min(left_s, 60.0)",
        (f"{_T_SESSION}::test_a_session_nobody_uses_is_closed",),
    ),
    Guard(
        "a session holds so much text",
        _SESSION,
        "if n_chars > self._limits.max_waiting_chars:",
        "if False:",
        (f"{_T_MISTAKES}::test_text_has_limits_and_an_utterance_that_lost_some_takes_no_more",),
    ),
    Guard(
        "SSML declares no entities",
        "pipeline/text/ssml/document.py",
        r"(?:<!--.*?-->\s*)*(?=<speak[\s>/])",
        r"(?:<!--.*?-->\s*)*(?=<speak[\s>/]|<!DOCTYPE)",
        ("pipeline/text/test_ssml.py::test_a_document_type_is_refused_so_that_no_entity_grows",),
    ),
    Guard(
        "expressions of callers have a time",
        "pipeline/text/dictionary.py",
        "for found in pattern.finditer(text, timeout=left_s, concurrent=True):",
        "for found in pattern.finditer(text, timeout=60, concurrent=True):",
        ("pipeline/text/test_dictionary.py::test_expressions_that_run_away_are_stopped_and_named",),
    ),
    Guard(
        "a pronunciation does not multiply a text",
        "pipeline/text/dictionary.py",
        "    if taken.growth + len(text) > most:\n",
        "    if False:\n",
        ("pipeline/text/test_dictionary.py::test_a_text_grows_within_bounds",),
    ),
    Guard(
        "a tenant has room for so many pronunciations",
        "deployments/pronunciation/book.py",
        "if made.n_entries > self._max_entries:",
        "if False:",
        ("deployments/http/routes/test_pronunciations.py::test_a_tenant_has_room_for_so_many",),
    ),
    Guard(
        "the page runs its own scripts alone",
        "deployments/http/ui/routes.py",
        """    "script-src": "'self'",""",
        """    "script-src": "'self' 'unsafe-inline'",""",
        (f"{_T_PAGE}::test_anybody_gets_the_page_and_nothing_else",),
    ),
    Guard(
        "the page stands in no other page",
        "deployments/http/ui/routes.py",
        """    "frame-ancestors": "'none'",""",
        """    "frame-ancestors": "*",""",
        (f"{_T_PAGE}::test_anybody_gets_the_page_and_nothing_else",),
    ),
    Guard(
        "a clip that is checked has a size",
        "deployments/http/clips/routes.py",
        "        check_size(clip, self._max_bytes)\n",
        "",
        ("deployments/http/clips/test_clip_checks.py::test_a_clip_over_the_limit_is_not_decoded",),
    ),
)
