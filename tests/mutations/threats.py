"""Who may try what, and the guards that stand against it: the rows of docs/threat-model.md."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Who(StrEnum):
    """Who tries; the headings of the page, in its order."""

    CLIENT = "Whoever reaches the port"
    FILE = "Whoever makes a clip, a text, an expression"
    TENANT = "A tenant, against others"
    VOICE = "Whoever uploads a voice that is not theirs"
    STORE = "Whoever can write to the bucket or the directory"
    ADDRESS = "Whoever names an address, or answers at one"
    PAGE = "A web page in somebody's browser"
    NETWORK = "A neighbour on the network or the machine"
    CHECKPOINT = "Whoever makes or mirrors a checkpoint"
    READER = "Whoever reads replies and logs"
    OPERATOR = "The operator, by mistake"


@dataclass(frozen=True, slots=True)
class Threat:
    """Something that may be tried. guards: names, of tests.mutations.table."""

    who: Who
    tried: str
    guards: tuple[str, ...]


THREATS = (
    Threat(
        Who.CLIENT,
        "Use the service without a key, or with one that is for less",
        (
            "every address but health needs a key",
            "the proxy's page of applications is nobody's",
            "a key opens what its scopes say",
            "a route that nobody listed is an operator's",
            "without keys a service answers its own machine",
            "two keys that differ are none",
        ),
    ),
    Threat(
        Who.CLIENT,
        "Guess keys, or drown the look-up of them; go on with one that was revoked or is old",
        (
            "a key that is over opens nothing",
            "an outage is bounded",
            "unknown keys wait in a short line",
            "a key's id is an id and no path",
        ),
    ),
    Threat(
        Who.CLIENT,
        "Bring a token of another issuer, for another audience, or with scopes that tokens may not "
        "give",
        (
            "a token is of the issuer",
            "a token is for this service",
            "a token gives what the settings let it",
        ),
    ),
    Threat(
        Who.CLIENT,
        "Take places by being slow: with a head, with a body, by not reading; tell the proxy not "
        "to give up",
        (
            "no caller's header gives the proxy orders",
            "a head that does not come is given up",
            "who takes nothing of a reply is given up",
            "a body comes at a pace",
            "bodies on their way fit the proxy",
        ),
    ),
    Threat(
        Who.TENANT,
        "Use more than was agreed: requests, audio, by many keys, by many routers, while the book "
        "of quotas is away",
        (
            "requests over a quota are refused",
            "audio is charged as it is sent",
            "a key's quota counts beside its tenant's",
            "without the cluster's book a router gives its share",
            "what is over a quota is owed",
            "there are so many keys",
        ),
    ),
    Threat(
        Who.STORE,
        "Read keys out of the store",
        ("a key is known by a digest",),
    ),
    Threat(
        Who.ADDRESS,
        "Have a clip fetched that is none, has no end, or takes for ever; from where a machine's "
        "credentials are; with ours",
        (
            "a clip is fetched with nothing of ours",
            "every redirect is checked",
            "there are so many redirects",
            "a clip that is fetched is audio",
            "a clip that is fetched has a size",
            "a host that is slow is given up",
            "so many clips are fetched at a time",
            "a metadata service is never asked",
        ),
    ),
    Threat(
        Who.CLIENT,
        "Fill the memory with bodies: one that is too large, with its length or without; many at "
        "a time; one that is compressed",
        (
            "a declared body over the limit is not read",
            "a body without a declared length is cut at the limit",
            "the rest of a refused body is read up to a bound",
            "bodies of all requests fit a budget",
            "declared bytes count before they come",
            "undeclared bytes count as they come",
            "no body is inflated",
        ),
    ),
    Threat(
        Who.CLIENT,
        "Keep every router busy: with requests, with sessions that say nothing or nonsense, with "
        "text that is never spoken",
        (
            "a router works at so many requests",
            "no stranger has the service trace him",
            "a router has so many sessions open",
            "a session of mistakes ends",
            "a session nobody uses ends",
            "a session's message has a size",
            "a session holds so much text",
        ),
    ),
    Threat(
        Who.CLIENT,
        "Have the models work for ever, or their memory run out",
        ("so many wait", "answers in work fit the memory"),
    ),
    Threat(
        Who.CLIENT,
        "Make parsing costly: thousands of parts or fields, a codec that is slow or fails",
        (
            "a form has so many parts",
            "an urlencoded form has so many fields",
            "charsets are looked up in a list",
            "a charset's name is no way to fail",
        ),
    ),
    Threat(
        Who.CLIENT,
        "Write headers and lines of logs of their own, by a request id or metadata",
        (
            "a caller's request id is clean",
            "a caller's request id is short",
            "metadata that comes back in headers is plain",
        ),
    ),
    Threat(
        Who.CLIENT,
        "Read or change other files, by an id or a name that is a path",
        (
            "a voice's id is an id and no path",
            "a consent's id is an id and no path",
            "a job's id is an id and no path",
            "a voice's name is no path and can be seen",
            "a namespace is a plain name",
            "a digest is hex",
            "no path leaves a directory",
            "no path leaves a bucket's prefix",
        ),
    ),
    Threat(
        Who.FILE,
        "A clip that expands: hours in few bytes, tables of gigabytes, packets without end",
        (
            "an uploaded clip has a size",
            "a clip that is checked has a size",
            "a clip has a size",
            "a clip has a length, whatever its header says",
            "a clip has a sample rate",
            "a packet holds so many samples",
            "an mp4 with a compressed header is refused",
            "an mp4's index fits its size",
            "an mp4 has so many boxes",
            "a caf's table fits its size",
        ),
    ),
    Threat(
        Who.FILE,
        "A clip that is a playlist of other files, or in a codec that nobody has looked at",
        ("a file opens no other", "libav decodes audio codecs of a list"),
    ),
    Threat(
        Who.FILE,
        "Samples that are no numbers, which would spoil whatever they are mixed into",
        ("samples off the scale are refused",),
    ),
    Threat(
        Who.FILE,
        "SSML whose entities grow; an expression that never ends; a dictionary that makes a book "
        "of a sentence",
        (
            "SSML declares no entities",
            "expressions of callers have a time",
            "a pronunciation does not multiply a text",
            "a tenant has room for so many pronunciations",
        ),
    ),
    Threat(
        Who.TENANT,
        "See or change another's voices, consents, jobs, edits, dictionaries, sessions or outcomes",
        (
            "a tenant's speech is its own",
            "a tenant sees its own voices",
            "a tenant sees its own consents",
            "a tenant sees its own jobs",
            "a tenant sees its own edits",
            "a tenant sees its own pronunciations",
            "a tenant sees its own outcomes",
            "a voice's key covers its namespace",
        ),
    ),
    Threat(
        Who.TENANT,
        "Take all places, all waiting, all room",
        (
            "a tenant speaks so many answers at a time",
            "a tenant with its share waits for others",
            "a namespace keeps so many voices",
            "a namespace keeps so many jobs",
        ),
    ),
    Threat(
        Who.VOICE,
        "Upload somebody's voice without asking them",
        ("an upload needs a consent",),
    ),
    Threat(
        Who.VOICE,
        "Have a voice taken for one of the service, by a name that looks like it",
        (
            "a voice looks like no voice of the service",
            "a voice's name mixes no scripts",
            "a voice's name is no id",
        ),
    ),
    Threat(
        Who.VOICE,
        "Pass synthetic speech off as a recording",
        (
            "every chunk of speech is marked",
            "chunks that are made together are marked",
            "speech without a mark needs a scope of its own",
            "an operator's key leaves no speech unmarked",
            "whoever has speech without a mark is logged",
            "speech with a mark and without are kept apart",
            "the mark's networks are the published ones",
        ),
    ),
    Threat(
        Who.VOICE,
        "Go on speaking in a voice that was removed",
        ("a removed clip stays removed while it is made",),
    ),
    Threat(
        Who.STORE,
        "Put a record of their own, or another's, in place of one (with secrets set; without, "
        "damage is found and forgery is not)",
        (
            "a record is what its digest says",
            "a record's digest covers its header",
            "a record is the one that was asked for",
            "a secret is long enough",
        ),
    ),
    Threat(
        Who.STORE,
        "A record that breaks whoever reads it: too large, compressed, out of its schema",
        (
            "a record is no larger than the bound",
            "a record is not inflated",
            "a record holds what its schema allows",
            "a sealed voice names its encoder",
            "an object is read up to a bound",
        ),
    ),
    Threat(
        Who.STORE,
        "Write or move a document: a voice or consent of one tenant to another",
        (
            "a document is sealed, and for its place",
            "a document that was moved is not believed",
        ),
    ),
    Threat(
        Who.ADDRESS,
        "Have the service connect to something inside: by an address, a name that means one, a "
        "name that means another one the second time, an answer that leads there",
        (
            "the service connects to hosts that are allowed",
            "an address has a scheme that is served",
            "a name that means a private address is refused",
            "a private address within an IPv6 one is seen",
            "what was checked is what is connected to",
            "a webhook follows no redirect",
            "an address in place of a clip is not fetched",
        ),
    ),
    Threat(
        Who.ADDRESS,
        "Have it send credentials along",
        ("an address carries no password",),
    ),
    Threat(
        Who.ADDRESS,
        "Tell a caller's server of a job that never was, or again of one that was",
        (
            "a webhook is signed",
            "a webhook's signature covers its time",
            "nothing is told unsigned",
        ),
    ),
    Threat(
        Who.PAGE,
        "Speak to a service that only this browser reaches",
        (
            "web pages of other origins open no session",
            "web pages of other origins read no reply",
        ),
    ),
    Threat(
        Who.PAGE,
        "Run a script in our page, which holds a key; show it in a frame and have it clicked",
        ("the page runs its own scripts alone", "the page stands in no other page"),
    ),
    Threat(
        Who.NETWORK,
        "Reach a service that was started for one machine; run code by Ray's ports, or with its "
        "token",
        (
            "a local service listens to its own machine",
            "Ray asks for a token",
            "the token is its user's alone",
        ),
    ),
    Threat(
        Who.CHECKPOINT,
        "Weights or configs that run code when they are read",
        (
            "tensors of a .pt run no code",
            "the linguistic tokenizer's .pt runs no code",
            "verifying a checkpoint runs no code",
            "a codebook is no pickle",
            "tags of a checkpoint's YAML name classes and make none",
        ),
    ),
    Threat(
        Who.CHECKPOINT,
        "Other weights than were published, or files in other places",
        (
            "a download is what its source publishes",
            "an official file is the published one, whatever its source says",
            "a download stays in its place",
            "a checkpoint is verified by digest",
        ),
    ),
    Threat(
        Who.READER,
        "Learn of the inside, or of what others asked, by errors and logs",
        (
            "clients read no internals of what nobody foresaw",
            "the log of a refusal quotes no caller",
        ),
    ),
    Threat(
        Who.READER,
        "Find a secret where settings are shown or refused",
        ("an address of a store carries no secret", "settings show no options of a store"),
    ),
    Threat(
        Who.OPERATOR,
        "Misspell a setting that was to keep somebody out, or the mode of Ray's token",
        (
            "a setting that is none stops the start",
            "a mode that Ray would take for off is refused",
        ),
    ),
)
