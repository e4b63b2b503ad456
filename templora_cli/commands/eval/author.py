"""`templora eval author`: does the adapter learn its author?"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from templora_cli.commands import flags
from templora_cli.commands.eval.tables import form_of, print_rows
from templora_cli.commands.paths import expand_home
from templora_cli.commands.settings import GivenSettings
from templora_cli.commands.terminal import REPEATABLE, engine_in_use, follow, noting, open_view, say
from templora_cli.config import Config
from templora_cli.errors import TemploraError
from templora_cli.events import Notice

if TYPE_CHECKING:
    from templora_cli.evaluation.author import Author
    from templora_cli.evaluation.burrows import Reference
    from templora_cli.novel.revised_chunks import Scope
    from templora_cli.render.view import View
    from templora_cli.sessions.new import Request
    from templora_cli.sessions.start import Start
    from templora_cli.state import WritingState

ARMS = ("off", "wide", "primed", "edited", "control", "tenth", "none")
SCOPES: tuple[Scope, ...] = ("change", "sentence", "paragraph")
"""More arms, measured on request: one sentence of each paragraph is replaced by the true one. The words that
differ are learnt as the author's, or the whole sentence, or the whole paragraph.
"""
COMMAND = "templora eval author"
MIN_UNSEEN = 1000
"""Words of the author that no arm has seen, for Burrows's Delta."""
WIDER = 4
"""How many times the window of the arm "wide" is wider."""
DEPTH_COLUMNS = {"arm": "arm", "depth": "depth", "tokens": "tokens", "ppl": "PPL", "change": "change %"}
STYLE_COLUMNS = {
    "arm": "arm",
    "words": "words",
    "delta": "Delta",
    "closed": "gap closed %",
    "rank": "rank",
    "own_words": "own words",
    "edited": "edited %",
    "probe": "other prose %",
}


@dataclass(frozen=True)
class Texts:
    """The texts of a measurement, cut to their lengths."""

    book: str
    """The whole text of the book."""
    name: str
    control: str
    control_name: str
    probe: str


@dataclass(frozen=True)
class Lengths:
    """Numbers of tokens."""

    prime: int
    edit: int
    scored: int

    @property
    def all(self) -> int:
        """All that is read of the book."""
        return self.prime + self.edit + self.scored


@flags.takes_settings(
    *("model.name", "model.quantize", "model.device", "train.recipe"),
    *("decode.chunk_tokens", "decode.context_tokens", "seed"),
    prefer="human",
    task="author",
)
def author(
    book: Annotated[Path, typer.Argument(help="A book whose author is to be learnt.", callback=expand_home)],
    control: Annotated[
        Path,
        typer.Option(
            help="As much text of another author of the time, for comparison.", callback=expand_home
        ),
    ],
    reference: Annotated[
        Optional[Path],
        typer.Option(
            help="Frequencies of the most frequent words in books of other authors, a JSON file, for "
            "Burrows's Delta.",
            callback=expand_home,
        ),
    ] = None,
    probe: Annotated[
        Optional[Path],
        typer.Option(help="Prose of another time that is never learnt.", callback=expand_home),
    ] = None,
    prime_tokens: Annotated[int, typer.Option(help="Tokens that are learnt first.")] = 20480,
    edit_tokens: Annotated[int, typer.Option(help="Tokens that are drafted, edited and learnt.")] = 20480,
    scored_tokens: Annotated[int, typer.Option(help="Tokens after them, to measure the end.")] = 4096,
    draft_every: Annotated[int, typer.Option(help="Write a draft for one of so many chunks.")] = 2,
    arm: Annotated[
        Optional[list[str]],
        typer.Option(help=f"{', '.join(ARMS)} (default: all); {', '.join(SCOPES)}. Can be repeated."),
    ] = None,
    step: Annotated[int, typer.Option(help="Range of depth of a row of the table, in tokens.")] = 4096,
    *,
    settings: GivenSettings,
    json: flags.TableAsJson = False,
    plot: flags.Plot = None,
    quiet: flags.OnlyTables = False,
) -> None:
    """Let a book play its author: prime on its beginning, draft what follows, and correct the drafts.

    Arms: off (no learning), wide (no learning, four times the window), primed (the beginning is learnt),
    edited (and each true chunk that replaced a draft), control (as much of another author), tenth and none
    (primed, and a tenth or none of the draft's paragraphs are replaced by the true ones). On request: change,
    sentence and paragraph (one sentence of each paragraph is replaced; so much is learnt as the author's).
    All are scored behind the true text. To continue a stopped run, run the same command again.
    """
    from templora_cli.documents.text_input import read_text
    from templora_cli.evaluation.burrows import read_reference
    from templora_cli.evaluation.plots import check_plot

    with open_view(json=False, quiet=quiet, prose=False, stopped=REPEATABLE) as (view, stop):
        if plot is not None:
            check_plot(plot)
        chosen = _arms(arm or [])
        lengths = Lengths(prime_tokens, edit_tokens, scored_tokens)
        for name, value in (
            *(("--prime-tokens", prime_tokens), ("--edit-tokens", edit_tokens)),
            *(("--scored-tokens", scored_tokens), ("--draft-every", draft_every), ("--step", step)),
        ):
            if value < 1:
                raise TemploraError(f"{name} {value}: must be at least 1", f"leave out {name}")
        frequencies = None if reference is None else read_reference(reference)
        if frequencies is not None:
            frequencies = frequencies.without(book.stem)
        read = noting(view)
        texts = Texts(
            read_text(book, notify=read),
            book.name,
            read_text(control, notify=read),
            control.name,
            "" if probe is None else read_text(probe, notify=read),
        )
        measured = _Measurement(
            settings.resolve(), texts, lengths, draft_every, view, stop, has_reference=reference is not None
        )
        arms = {name: measured.arm(name) for name in chosen}
        view.close()
        depths, styles = measured.rows(arms, step, frequencies)
        form = form_of(as_json=json)
        print_rows(form, measured.config, DEPTH_COLUMNS, depths, **({"drafts": styles} if json else {}))
        if styles and not json:
            say()
            print_rows(form, measured.config, STYLE_COLUMNS, styles)
        if plot is not None:
            from templora_cli.evaluation.plots import plot_author

            plot_author(plot, depths)


def _arms(given: Sequence[str]) -> list[str]:
    """The arms to measure, "off" first: the others are compared with it."""
    known = (*ARMS, *SCOPES)
    if unknown := [name for name in given if name not in known]:
        raise TemploraError(f"--arm {unknown[0]}: there is no such arm", f"choose from {', '.join(known)}")
    return [name for name in known if name in (given or ARMS) or name == "off"]


class _Measurement:
    """Runs the arms one after another, each as sessions that can be resumed."""

    def __init__(
        self,
        config: Config,
        texts: Texts,
        lengths: Lengths,
        draft_every: int,
        view: View,
        stop: threading.Event,
        *,
        has_reference: bool,
    ) -> None:
        from templora_cli.engine.models.loading import load_tokenizer
        from templora_cli.evaluation.author import Author
        from templora_cli.prepare import find_model
        from templora_cli.reading import reading_tokens
        from templora_cli.text import decode

        self.config, self.texts, self.lengths, self.view, self.stop = config, texts, lengths, view, stop
        self.tokenizer = load_tokenizer(find_model(config))
        self.books: dict[str, Author] = {}
        self.unseen = ""
        for role, text, name in (
            ("book", texts.book, texts.name),
            ("control", texts.control, texts.control_name),
        ):
            header, tokens = reading_tokens(self.tokenizer, text)
            if len(tokens) < lengths.all:
                raise TemploraError(
                    f"{name} has {len(tokens):,} tokens, fewer than the {lengths.all:,} to be read",
                    "take a longer text, or a smaller --prime-tokens and --edit-tokens",
                )
            if role == "book":
                self.unseen = decode(self.tokenizer, tokens[lengths.all :])
                if has_reference and len(self.unseen.split()) < MIN_UNSEEN:
                    raise TemploraError(
                        f"{name} has {len(self.unseen.split()):,} words after the {lengths.all:,} tokens "
                        f"that are read; --reference needs {MIN_UNSEEN:,}, to know the author by",
                        "take a longer book, or a smaller --edit-tokens",
                    )
            self.books[role] = Author(
                header, tokens[: lengths.all], lengths.prime, config.decode.chunk_tokens, draft_every
            )
        self.probe = reading_tokens(self.tokenizer, texts.probe[:20_000]) if texts.probe else ((), ())

    def arm(self, name: str) -> dict[int, Any]:
        """The measures of one arm, by number of the chunk after the beginning."""
        from templora_cli import runner
        from templora_cli.evaluation.author import AuthorMeasure
        from templora_cli.evaluation.measurement_cache import MeasurementCache
        from templora_cli.sessions.store import sha256_of

        say(f"arm {name}", err=True)
        request, config, start = self._session(name)
        engine = engine_in_use()
        with runner.begin(
            request, config, notify=self.view.show, engine=engine, resume_same=True, start=start
        ) as run:
            self.config = replace(self.config, human=run.config.human, generated=run.config.generated)
            measure = AuthorMeasure(
                self.books["book"],
                run.model,
                lambda: run.engine.backend(run.model, run.session.manifest.backend),
                run.config.decode,
                (self.probe[0], self.probe[1][:2048]),
                run.config.seed,
            )
            of_probe = sha256_of(self.texts.probe)[:8]
            kept = f"author-{self.books['book'].draft_every}-{of_probe}.json"
            cache = MeasurementCache(run.session.path / kept)

            def after_chunk(index: int, state: WritingState) -> None:
                cache.measure_once(index + 1, lambda: measure(index + 1))

            follow(run, run.events(self.stop, after_chunk=after_chunk), self.view, self.stop)
            return {index: dict(value) for index, value in cache.values.items() if value}

    def rows(
        self, arms: Mapping[str, dict[int, Any]], step: int, reference: Reference | None
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """The rows of both tables."""
        from templora_cli.evaluation.author import depth_rows, own_words_of, style_rows
        from templora_cli.text import decode

        book = self.books["book"]

        def text_of(tokens: Sequence[int]) -> str:
            return decode(self.tokenizer, tokens)

        own = own_words_of(text_of(book.tokens[: book.seen]), self.texts.control)
        styles = style_rows(book, arms, text_of, self.unseen, own, reference)
        return [asdict(row) for row in depth_rows(book, arms, step)], [asdict(row) for row in styles]

    def _session(self, name: str) -> tuple[Request, Config, Start | None]:
        """Request, settings and start of the session of an arm."""
        from templora_cli.editing import EditingRequest
        from templora_cli.reading import ReadingRequest

        texts, lengths, config = self.texts, self.lengths, self.config
        if name in ("off", "wide"):
            config = replace(config, train=replace(config.train, learn=False))
        if name == "wide":
            window = WIDER * config.decode.context_tokens
            config = replace(config, decode=replace(config.decode, context_tokens=window))
        role = "control" if name == "control" else "book"
        text, of = (texts.control, texts.control_name) if role == "control" else (texts.book, texts.name)
        start = None if name in ("off", "wide") else self._primed(role, of)
        if name in ("tenth", "none", *SCOPES):
            share = {"tenth": 0.1, "none": 0.0}.get(name, 1.0)
            scope = next((each for each in SCOPES if each == name), None)
            request = EditingRequest(text, of, lengths.all, lengths.prime, share, COMMAND, scope)
            return request, config, start
        reading = ReadingRequest(
            text,
            of,
            lengths.all,
            seen_tokens=lengths.prime,
            learnt=name not in ("off", "wide", "primed"),
            kind="author",
            measured_by=COMMAND,
        )
        return reading, config, start

    def _primed(self, role: str, name: str) -> Start | None:
        """The checkpoint after priming on the beginning of a text; it is learnt once."""
        from templora_cli import runner
        from templora_cli.priming import PrimeRequest, start_of
        from templora_cli.text import decode

        book = self.books[role]
        beginning = decode(self.tokenizer, book.tokens[: book.seen])
        request, engine = PrimeRequest(((name, beginning),)), engine_in_use()
        with runner.begin(
            request, self.config, notify=self.view.show, engine=engine, resume_same=True
        ) as run:
            follow(run, run.events(self.stop), self.view, self.stop)
            start = start_of(run.session.path, run.session.manifest, run.chunks)
            if start is None:
                self.view.show(Notice(f"learning the beginning of {name} did not help: it is not learnt"))
            return start
