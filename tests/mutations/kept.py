"""Guards of what is kept: records, documents, voices, and whose they are."""

from __future__ import annotations

from tests.mutations.guard import Guard

_CODEC = "cache_store/codec.py"
_T_CODEC = "cache_store/test_codec.py"
_T_UPLOADED = "deployments/voices/test_uploaded.py"
_T_VOICES = "deployments/http/routes/test_uploaded_voices.py"
_T_NAMES = "deployments/voices/test_names.py"
_T_JOURNAL = "deployments/voices/test_journal.py"
_SHELF = "deployments/voices/shelf.py"
_NAMES = "deployments/voices/names.py"
_T_GATE = "deployments/admission/test_gate.py"

GUARDS = (
    Guard(
        "a record is what its digest says",
        _CODEC,
        "if not hmac.compare_digest(_mac(secret, bytes(view[:16]), tail, payload), view[16:48]):",
        "if False:",
        (
            f"{_T_CODEC}::test_a_record_without_the_secret_is_not_accepted",
            f"{_T_CODEC}::test_no_mutant_is_accepted",
        ),
    ),
    Guard(
        "a record's digest covers its header",
        _CODEC,
        "    hasher.update(head)\n",
        "",
        (f"{_T_CODEC}::test_the_digest_covers_the_header",),
    ),
    Guard(
        "a record is the one that was asked for",
        _CODEC,
        "if metadata.pop(_KEY_FIELD, None) != key:",
        "if metadata.pop(_KEY_FIELD, None) is None:",
        (
            f"{_T_CODEC}::test_another_key_schema_or_schema_version_is_corrupt",
            "cache_store/test_tiered.py::test_an_object_under_another_name_is_quarantined_not_served",
        ),
    ),
    Guard(
        "a record is no larger than the bound",
        _CODEC,
        '    if len(entry) > max_bytes:\n        raise CorruptEntry("size"',
        '    if False:\n        raise CorruptEntry("size"',
        (f"{_T_CODEC}::test_sizes_are_bounded",),
    ),
    Guard(
        "a record is not inflated",
        _CODEC,
        "if not payload.address <= data.address <= data.address + data.size <= end:",
        "if False:",
        (f"{_T_CODEC}::test_a_compressed_stream_is_refused_even_when_sealed",),
    ),
    Guard(
        "a record holds what its schema allows",
        _CODEC,
        "    record = Record(MappingProxyType(arrays), MappingProxyType(metadata))\n"
        "    schema.validate(record)\n",
        "    record = Record(MappingProxyType(arrays), MappingProxyType(metadata))\n",
        (f"{_T_CODEC}::test_a_record_outside_its_schema_is_neither_written_nor_read",),
    ),
    Guard(
        "a sealed voice names its encoder",
        "deployments/voices/records.py",
        '    if "fingerprint" not in record.metadata:\n'
        '        raise RecordError("the metadata lacks fingerprint")\n',
        "",
        ("fuzz/test_corpus.py::test_a_kept_input_is_read_or_refused",),
    ),
    Guard(
        "a secret is long enough",
        "cache_store/keyring.py",
        "if len(secret) < _MIN_SECRET_CHARACTERS:",
        "if False:",
        (f"{_T_CODEC}::test_keyring_sources",),
    ),
    Guard(
        "an address of a store carries no secret",
        "cache_store/settings.py",
        "        if _SECRET_IN_URL.match(url):\n",
        "        if False:\n",
        ("test_planted.py::test_an_address_carries_no_secret",),
    ),
    Guard(
        "settings show no options of a store",
        "cache_store/settings.py",
        "Field(default_factory=dict[str, Any], repr=False)",
        "Field(default_factory=dict[str, Any])",
        ("test_planted.py::test_settings_say_nothing_of_a_buckets_secret",),
    ),
    Guard(
        "a namespace is a plain name",
        "cache_store/keys.py",
        "    if not _NAMESPACE.fullmatch(namespace):\n",
        "    if False:\n",
        ("cache_store/test_keys.py::test_a_namespace_that_could_not_stand_in_a_path_is_refused",),
    ),
    Guard(
        "a digest is hex",
        "cache_store/keys.py",
        "        if not _HEX.fullmatch(value):\n",
        "        if False:\n",
        ("cache_store/test_keys.py::test_a_digest_that_is_not_hex_is_refused",),
    ),
    Guard(
        "a voice's key covers its namespace",
        "cache_store/keys.py",
        "fields = (self.namespace, self.clip_digest, self.encoder_fingerprint)",
        'fields = ("", self.clip_digest, self.encoder_fingerprint)',
        (
            "cache_store/test_keys.py::test_each_ingredient_changes_the_key",
            "cache_store/test_tiered.py::test_namespaces_and_fingerprints_do_not_share",
        ),
    ),
    Guard(
        "no path leaves a directory",
        "cache_store/local_store.py",
        'if ".." in target.parts or not target.is_relative_to(self._root):',
        "if False:",
        ("cache_store/test_stores.py::TestLocalStore::test_no_path_leaves_the_store",),
    ),
    Guard(
        "no path leaves a bucket's prefix",
        "cache_store/fsspec_store.py",
        'if ".." in path.split("/"):',
        "if False:",
        ("cache_store/test_stores.py::TestMemoryUrl::test_no_path_leaves_the_store",),
    ),
    Guard(
        "an object is read up to a bound",
        "cache_store/local_store.py",
        "data = file.read(max_bytes + 1)",
        "data = file.read()",
        ("cache_store/test_stores.py::TestLocalStore::test_reading_is_bounded",),
    ),
    Guard(
        "a document is sealed, and for its place",
        _SHELF,
        "if key is None or not hmac.compare_digest(_digest(key, path, body), digest):",
        "if key is None:",
        (f"{_T_JOURNAL}::test_a_damaged_or_moved_document_is_told_and_not_believed",),
    ),
    Guard(
        "a document that was moved is not believed",
        _SHELF,
        'return blake3(path.encode() + b"\\0" + body, key=key).hexdigest()',
        "return blake3(body, key=key).hexdigest()",
        (f"{_T_JOURNAL}::test_a_damaged_or_moved_document_is_told_and_not_believed",),
    ),
    Guard(
        "a voice's name is no path and can be seen",
        _NAMES,
        "if char in _SEPARATORS or unicodedata.category(char) in _UNSEEN:",
        "if False:",
        (f"{_T_NAMES}::test_a_name_is_never_a_path_nor_unseen",),
    ),
    Guard(
        "a voice looks like no voice of the service",
        _NAMES,
        "if look == _look(name_key(taken)):",
        "if key == name_key(taken):",
        (f"{_T_NAMES}::test_a_built_in_voice_cannot_be_shadowed",),
    ),
    Guard(
        "a voice's name mixes no scripts",
        _NAMES,
        "    if len(scripts) > 1:\n",
        "    if False:\n",
        (f"{_T_NAMES}::test_a_name_is_of_one_script",),
    ),
    Guard(
        "a voice's name is no id",
        _NAMES,
        "    if _ID_LIKE.match(key):\n",
        "    if False:\n",
        (f"{_T_NAMES}::test_a_name_does_not_look_like_an_id",),
    ),
    Guard(
        "an upload needs a consent",
        "deployments/voices/enrolment.py",
        'if self._settings.consent == "optional":',
        "if True:",
        (
            f"{_T_VOICES}::test_without_a_consent_an_upload_is_refused",
            "deployments/http/routes/test_elevenlabs_voices.py::"
            "test_without_a_consent_it_is_refused_and_told_where_it_belongs",
        ),
    ),
    Guard(
        "a consent's id is an id and no path",
        "deployments/voices/consents.py",
        "        if _ID.fullmatch(asked):\n",
        "        if True:\n",
        (f"{_T_UPLOADED}::TestConsents::test_a_deleted_one_leaves_no_words_and_no_sound",),
    ),
    Guard(
        "a job's id is an id and no path",
        "deployments/jobs/store.py",
        "        if _ID.fullmatch(asked):\n",
        "        if True:\n",
        ("deployments/jobs/test_store.py::test_a_jobs_id_is_never_a_path",),
    ),
    Guard(
        "a namespace keeps so many voices",
        "deployments/voices/uploaded.py",
        "if sum(one.is_live for one in standings.values()) >= self._max_voices:",
        "if False:",
        (f"{_T_UPLOADED}::test_there_is_a_limit",),
    ),
    Guard(
        "a namespace keeps so many jobs",
        "deployments/jobs/store.py",
        "        if await self._is_full(namespace):\n",
        "        if False:\n",
        ("deployments/http/routes/test_jobs.py::test_so_many_jobs_are_kept",),
    ),
    Guard(
        "a voice's id is an id and no path",
        "deployments/voices/states.py",
        "return _ID.fullmatch(text) is not None",
        "return True",
        (f"{_T_UPLOADED}::test_what_is_asked_for_is_never_a_path",),
    ),
    Guard(
        "a tenant sees its own voices",
        "deployments/voices/states.py",
        'return f"{ROOT}/{namespace}/states/{voice}"',
        'return f"{ROOT}/all/states/{voice}"',
        (f"{_T_UPLOADED}::test_nothing_of_a_tenant_is_another_ones",),
    ),
    Guard(
        "a tenant sees its own consents",
        "deployments/voices/consents.py",
        'return f"{ROOT}/{namespace}/consents/{consent_id}"',
        'return f"{ROOT}/all/consents/{consent_id}"',
        (f"{_T_UPLOADED}::TestConsents::test_a_deleted_one_leaves_no_words_and_no_sound",),
    ),
    Guard(
        "a tenant sees its own jobs",
        "deployments/jobs/store.py",
        'return f"{ROOT}/{self.namespace}/{kind}/{self.id}"',
        'return f"{ROOT}/all/{kind}/{self.id}"',
        ("deployments/jobs/test_store.py::test_a_tenants_jobs_are_its_own",),
    ),
    Guard(
        "a tenant sees its own edits",
        "deployments/edits/book.py",
        'return f"{ROOT}/{namespace}/{owner}/{edit_id}{_SUFFIX}"',
        'return f"{ROOT}/all/{owner}/{edit_id}{_SUFFIX}"',
        ("deployments/http/routes/test_edits.py::test_a_tenants_edits_are_its_own",),
    ),
    Guard(
        "a tenant sees its own pronunciations",
        "deployments/pronunciation/book.py",
        'return f"{ROOT}/{namespace}/pronunciations"',
        'return f"{ROOT}/all/pronunciations"',
        ("deployments/http/routes/test_pronunciations.py::test_a_tenants_are_nobody_elses",),
    ),
    Guard(
        "a tenant sees its own outcomes",
        "deployments/telemetry/outcomes.py",
        "report, until_s = self._reports.get((namespace, request_id), (None, 0.0))",
        "report, until_s = next((v for k, v in self._reports.items() if k[1] == request_id), "
        "(None, 0.0))",
        (
            "deployments/telemetry/test_outcomes.py::test_a_namespace_sees_its_own_alone",
            "deployments/http/routes/test_speech.py::TestOutcomes::"
            "test_another_tenants_is_404_as_an_unknown_one",
        ),
    ),
    Guard(
        "a tenant's speech is its own",
        "deployments/http/tenant.py",
        "return getattr(request.state, NAMESPACE, default)",
        "return default",
        (
            f"{_T_VOICES}::test_one_tenants_voices_and_consents_are_not_anothers",
            "deployments/http/sessions/test_session.py::"
            "test_a_tenant_hears_of_its_own_sentences_alone",
        ),
    ),
    Guard(
        "a removed clip stays removed while it is made",
        "cache_store/cache.py",
        "if entry.data is not None and watch.allows(key.owner):",
        "if entry.data is not None:",
        (
            "deployments/voices/test_resolver.py::"
            "test_a_clip_removed_while_it_is_encoded_is_spoken_and_not_kept",
        ),
    ),
    Guard(
        "a tenant speaks so many answers at a time",
        "deployments/admission/gate.py",
        "if sum(one.tenant == asked.tenant for one in in_house) >= limit:",
        "if False:",
        (f"{_T_GATE}::test_no_tenant_has_more_than_its_limit",),
    ),
    Guard(
        "a tenant with its share waits for others",
        "deployments/admission/gate.py",
        "if self._shares.has_its_share(asked.tenant, everybody, max(len(running), 1), now_s):",
        "if False:",
        (f"{_T_GATE}::test_a_tenant_with_its_share_is_told_so_while_others_want_some",),
    ),
    Guard(
        "so many wait",
        "deployments/admission/gate.py",
        "        if is_full:\n"
        "            raise self._refusals.line_is_full(asked, len(alike), wait_s, every_s)\n",
        "",
        (f"{_T_GATE}::test_only_so_many_wait_of_each_class_and_those_who_left_do_not_count",),
    ),
    Guard(
        "answers in work fit the memory",
        "deployments/admission/gate.py",
        "or (most is not None and used > most):",
        "or False:",
        (f"{_T_GATE}::test_bytes_are_counted",),
    ),
)
