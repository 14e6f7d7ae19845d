"""A run, as it is looked at and used from Python: all that its folder holds."""

import os
from collections.abc import Sequence
from typing import Any, Literal

from torch import nn

from nufed.api.data import rows_of
from nufed.api.model import again
from nufed.api.page import Page
from nufed.api.showing import showing
from nufed.api.tables import Table, clients, curves, personal_models, rounds
from nufed.cli.adapt_all import members, place_of, write_all
from nufed.cli.adapt_all import progress as shown
from nufed.client_app.export import require_available
from nufed.client_app.from_run import AS_IN_RUN, AUTO, fine_tuner, personalize, trained_module
from nufed.client_app.personal import Personal
from nufed.conf.compose import find_config
from nufed.conf.errors import InputError
from nufed.conf.files import is_there, read_text
from nufed.conf.schema import Config
from nufed.conf.text import printable
from nufed.conf.words import path_of
from nufed.server_app.baselines.verdict import read
from nufed.server_app.report.record import Record, as_written, read_record
from nufed.server_app.report.run_page import headline, report
from nufed.server_app.run_folder import LARGEST, METRICS, REPORT, SUMMARY
from nufed.server_app.terminal import Terminal
from nufed.tasks.rows import Rows, is_frame


class Run:
    """A run that has begun, by its folder.

    Parameters
    ----------
    folder
        The run folder.
    trust
        Modules that may be called where the run, not one of this person's own, names them.

    Raises
    ------
    InputError
        If it is not the folder of a run.

    Attributes
    ----------
    folder : Path
        The run folder, absolute. A run also serves where a path does.
    """

    def __init__(
        self, folder: str | os.PathLike[str], *, trust: str | Sequence[str] | None = None
    ) -> None:
        self.folder, self._trust = path_of(os.fspath(folder)).absolute(), trust
        self._name = os.fspath(folder)
        self._read: tuple[int | None, Record] | None = None
        find_config(self.folder, self._name)
        if not is_there(self.folder / METRICS):
            raise InputError(f"{self._name}: is not the folder of a run; it has no {METRICS}")

    @property
    def config(self) -> Config:
        """The configuration, every key with its value."""
        return self._record.config

    @property
    def summary(self) -> dict[str, Any]:
        """What summary.json says: the curves at the end, ε, versions; empty before the end."""
        return self._record.summary or {}

    @property
    def curves(self) -> Table:
        """Personalization curves: a row for each evaluated round, group of clients and k.

        Columns `round`, `group` (participating or new), `k`, and of each metric its mean over
        clients, `_std`, `_worst_decile` and `_bottom`. A pandas.DataFrame, or a dictionary of
        arrays without pandas; so are the other tables.
        """
        with as_written(self._name):
            return curves(self._record)

    @property
    def clients(self) -> Table:
        """The last evaluation: a row for each client and k; `rows` are its train rows."""
        with as_written(self._name):
            return clients(self._record)

    @property
    def rounds(self) -> Table:
        """The rounds of training: `round`, `train_loss`, `update_norm`, `train_s`, costs, …."""
        with as_written(self._name):
            return rounds(self._record)

    @property
    def model(self) -> nn.Module:
        """The trained model, with its parameters and buffers, in eval mode on the CPU; made anew.

        It is given rows as the module takes them: pixels divided by 255.

        Raises
        ------
        InputError
            If the run has not ended, or its model's code is not here.
        """
        return trained_module(self.folder, trust=self._trust)

    @property
    def report(self) -> Page:
        """The report, which a notebook shows."""
        file = self.folder / REPORT
        there = is_there(file)
        with as_written(self._name):
            page = read_text(file, largest=LARGEST) if there else report(self._record)
        return Page(page, f"the report of {self._name}")

    def personalize(
        self,
        x: Any,
        y: Any = None,
        *,
        client: int | str | None = None,
        test: Any = None,
        steps: int | Literal["auto"] = AUTO,
        alpha: float | None = None,
        batch: int | str | None = AS_IN_RUN,
        test_fraction: float | None = None,
        device: str = "cpu",
    ) -> Personal:
        """Fine-tune the model on a client's own rows; measure it after each step on others of them.

        Parameters
        ----------
        x, y
            The client's rows, [N, …] and [N, …]. Or x alone: a file of them; rows of
            `nufed.prepare`; or, where the run's rows were made of one, a table, be it a file or a
            `pandas.DataFrame`.
        client
            Which client, by its id, where x has several.
        test
            [N] booleans, the rows to hold out; None: the run's `partition.test_fraction` of them.
        steps, alpha, batch, test_fraction, device
            As of `nufed.personalize`.

        Raises
        ------
        InputError
            If the rows cannot be used, or the model's code is not here.
        """
        whole = isinstance(x, str | os.PathLike | Rows) or (y is None and is_frame(x))
        if whole != (y is None) or (whole and test is not None):
            raise InputError("personalize: give rows x and y, or the file that holds them")
        return personalize(
            self.folder,
            (os.fspath(x) if isinstance(x, os.PathLike) else x)
            if whole
            else rows_of(x, y, test=test),
            client=client,
            steps=steps,
            alpha=alpha,
            batch=batch,  # type: ignore[arg-type]
            test_fraction=test_fraction,
            device=device,
            trust=self._trust,
        )

    def personalize_all(
        self,
        folder: str | os.PathLike[str],
        data: Any = None,
        *,
        clients: Literal["all", "participating", "new"] = "all",
        export: Sequence[str] = (),
        steps: int | Literal["auto"] = AUTO,
        alpha: float | None = None,
        batch: int | str | None = AS_IN_RUN,
        test_fraction: float | None = None,
        device: str = "cpu",
        progress: bool = True,
    ) -> Table:
        """Write a personal model of each client into a folder, as `nufed-adapt clients=all` does.

        Parameters
        ----------
        folder
            Where to; it must not be there yet. Its `clients.csv` has more columns than what is
            returned.
        data
            Rows of clients: a file, rows of `nufed.prepare`, or a table, as of `personalize`;
            None: the run's own.
        clients
            Of the run's own, which.
        export
            What each is exported as besides, of ``"onnx"``, ``"pt2"``.
        steps, alpha, batch, test_fraction, device
            As of `nufed.personalize`.
        progress
            Whether to show how many clients are done.

        Returns
        -------
        Table
            A row for each client: how many steps serve it, and what its metric gains by them on
            the rows held out; or why it has no model.

        Raises
        ------
        InputError
            If the rows cannot be used, no client can be served, or the folder is there.
        """
        for form in export:
            require_available(form)
        tuner = fine_tuner(
            self.folder,
            os.fspath(data) if isinstance(data, os.PathLike) else data,
            steps=steps,
            alpha=alpha,
            batch=batch,  # type: ignore[arg-type]
            test_fraction=test_fraction,
            device=device,
            trust=self._trust,
        )
        which = members(tuner, clients, of_run=data is None)
        place = place_of(os.fspath(folder))
        with showing(progress), shown(Terminal(), len(which)) as advance:
            found = write_all(tuner, which, place, export, advance)
        return personal_models(found)

    def __fspath__(self) -> str:
        return str(self.folder)

    def __repr__(self) -> str:
        with as_written(self._name):
            said = " ".join(filter(None, (headline(self._record), _pays(self._record))))
            return printable(f"Run({self._name!r}): {said}")

    @property
    def _record(self) -> Record:
        """What the folder holds; read again if the run goes on, or went on meanwhile."""
        file = self.folder / SUMMARY
        ended = file.stat().st_mtime_ns if is_there(file) else None
        if self._read is None or ended is None or self._read[0] != ended:
            self._read = ended, read_record(self.folder, self._name)
        return self._read[1]


def _pays(run: Record) -> str:
    """Say whether federation pays, where clients were measured without it too."""
    said = (run.summary or {}).get("baselines")
    return "" if said is None else read(said).pays()


def load(
    folder: str | os.PathLike[str],
    *,
    model: object = None,
    trust: str | Sequence[str] | None = None,
) -> Run:
    """Return a run by its folder.

    Parameters
    ----------
    folder
        The run folder, of `nufed` or `train`; also of a run that goes on, or stopped.
    model
        What makes its model, of a run that another Python session gave it as an object.
    trust
        Modules that may be called where the run, not one of this person's own, names them.

    Raises
    ------
    InputError
        If it is not the folder of a run, or the model is not for this one.
    """
    run = Run(folder, trust=trust)
    if model is not None and not again(run.folder, model):
        target = run.config.model.get("_target_")
        raise InputError(
            f"model: the run names its own, {target}, which is found by that; leave it out"
        )
    return run
