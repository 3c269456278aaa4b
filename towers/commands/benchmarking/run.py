"""One benchmark: a plain file to figures, by the commands' own parts: ingest, training, rebuild, server, client."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import tomlkit
from rich.progress import Progress
from twinrank_client import Client, RepeatPolicy

from client.served_lists import served_lists
from client.server_process import server_process
from index.commands.rebuild import publish
from index.generation import set_current
from towers.commands.benchmarking.progress import Stages, fingerprint
from towers.commands.train import exact_search
from towers.evaluation.held_out import HeldOutQuestion, held_out_figures, held_out_question
from towers.ingest.plain import ASKED_AT_S, PlainFiles, PlainSplit, ingest_plain, split_plain
from towers.model import TrainedModel, read_model
from towers.offline import rank_users
from towers.schema import Dataset, ShopConfig, load_dataset
from towers.schema.plain import ASKED_AT, PlainConfig, Protocol
from towers.training.loop import progress_bar
from towers.training.run import TrainingRun

SHOP_FILE = "shop.toml"
"""The benchmark as a shop, for the commands that take one: `towers tune`, `towers train`, `index rebuild`."""
SERVER_CONFIG = Path(__file__).parent / "server.toml"
CUTOFFS = {Protocol.LEAVE_LAST_OUT: (10, 20), Protocol.HOLDOUT: (20,)}
CALLS_IN_FLIGHT = 4
CALL_TIMEOUT_S = 60.0

Figures = dict[str, Any]


@dataclass
class BenchmarkRun:
    """A benchmark of plain files with its work in one directory; `say` prints a line."""

    files: PlainFiles
    settings: PlainConfig
    work_dir: Path
    say: Callable[[str], None]

    def run(self) -> Figures:
        """All stages that are not done yet.

        Returns:
            `recall@k`, `ndcg@k`, `offline` (the same by exact search without a server), `seconds`, `users`, `items`,
            and for leave-last-out `refit` with the first three again.

        Raises:
            DataError: a file or a setting is wrong, or too little is left to learn from.
        """
        split = self._split
        stages = self._stages
        self.prepare()
        stages.once("train", self._train)
        strict = self.files.protocol is Protocol.LEAVE_LAST_OUT
        again = strict or self.settings.plain.refit
        if again:
            stages.once("learn again", self._learn_again)
        figures: Figures = {}
        if strict or not again:
            figures = stages.once("serve", lambda: self._serve("model"))
        if again:
            refit = stages.once("serve what learned again", lambda: self._serve("again"))
            figures = figures | {"refit": refit} if strict else refit
        question = self._question
        return figures | {
            "seconds": round(stages.seconds, 1),
            "users": len(question.user_ids),
            "items": question.evaluation_set.item_count,
            "held_out_items_not_in_the_catalogue": question.stranger_count,
            "left_out": split.held_out.left_out,
            "quarantine": self._dataset.meta.quarantine,
        }

    def prepare(self) -> Path:
        """The dataset and nothing more; gives the shop's TOML file."""
        self._stages.once("load", self._load)
        return self._shop.shop.work_dir / SHOP_FILE

    def forget(self) -> None:
        """The figures are kept elsewhere: the next run begins anew."""
        self._stages.forget()

    @cached_property
    def _split(self) -> PlainSplit:
        return split_plain(self.files, self.settings.plain)

    @cached_property
    def _shop(self) -> ShopConfig:
        return self.settings.shop(self.files.lines, self.files.attributes, self.files.protocol, self.work_dir)

    @cached_property
    def _stages(self) -> Stages:
        files = [path for path in (self.files.lines, self.files.attributes, self.files.test) if path is not None]
        settings = self._shop.model_dump_json() + self.settings.plain.model_dump_json() + self.files.protocol
        return Stages(self.work_dir, fingerprint(files, settings), self.say)

    @cached_property
    def _dataset(self) -> Dataset:
        return load_dataset(self._shop.dataset_dir)

    @cached_property
    def _question(self) -> HeldOutQuestion:
        return held_out_question(self._dataset, self._split.held_out.items, ASKED_AT_S)

    def _load(self) -> None:
        shop = self._shop
        shop.shop.work_dir.mkdir(parents=True, exist_ok=True)
        settings = shop.model_dump(mode="json", exclude_none=True)
        (shop.shop.work_dir / SHOP_FILE).write_text(tomlkit.dumps(settings), encoding="utf-8")
        meta = ingest_plain(self.files, self._split, self.settings.plain, shop.shop.name, shop.dataset_dir).meta
        self.say(
            f"{meta.counts.rows:,} events of {meta.counts.users:,} users, {meta.counts.items:,} items, "
            f"{len(self._split.held_out.items):,} users are asked for"
        )
        for what, counts in (
            ("quarantined", meta.quarantine),
            ("not asked", self._split.held_out.left_out),
            ("without", meta.imputed),
        ):
            for reason, count in counts.items():
                if count:
                    self.say(f"{what}: {reason} {count:,}")

    def _training(self, progress: Progress) -> TrainingRun:
        say = progress.console.print
        return TrainingRun(self._dataset, self._shop.learning, exact_search, self._shop.run_dir, progress, say)

    def _train(self) -> None:
        with progress_bar() as progress:
            self._training(progress).run().write(self._model_dir("model"))

    def _learn_again(self) -> None:
        with progress_bar() as progress:
            self._training(progress).learn_again(self._model("model")).write(self._model_dir("again"))

    def _model_dir(self, name: str) -> Path:
        return self._shop.run_dir / name

    def _model(self, name: str) -> TrainedModel:
        return read_model(self._model_dir(name))

    def _serve(self, name: str) -> Figures:
        """Publishes the model, asks a real server for every user, and the same model without a server."""
        model, question, ks = self._model(name), self._question, CUTOFFS[self.files.protocol]
        published = publish(self._shop, self._dataset, model, None, self.say)
        set_current(self._shop.generations_dir, published.generation_id)
        rankings = self._ask(max(ks))
        offline = rank_users(self._dataset, model, question.evaluation_set, exact_search, k=max(ks))
        figures: Figures = held_out_figures(rankings, question, ks)
        self.say(", ".join(f"{metric} {value:.4f}" for metric, value in figures.items()))
        return figures | {"offline": held_out_figures(offline, question, ks)}

    def _ask(self, page_size: int) -> Any:
        """(U, page_size) item rows that the server answers over gRPC."""
        settings = {"TWINRANK_GENERATIONS__ROOT": str(self._shop.generations_dir)}
        with ExitStack() as stack:
            target = stack.enter_context(server_process(SERVER_CONFIG, self.work_dir / "server.log", settings))
            client = stack.enter_context(Client(target, timeout_s=CALL_TIMEOUT_S))
            return served_lists(
                client,
                self._question.user_ids,
                self._dataset.items["item_id"].to_list(),
                ASKED_AT,
                RepeatPolicy.EXCLUDE_BOUGHT,
                page_size,
                CALLS_IN_FLIGHT,
            )
