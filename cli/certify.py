"""`nufed-certify`: the constants of a task or a run, and what the theory makes of them."""

import argparse
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from nufed.cli.command import Parser, carry_out, count
from nufed.conf.compose import compose_config, of_run
from nufed.conf.errors import InputError
from nufed.conf.importing import let_import
from nufed.conf.schema import Config
from nufed.conf.targets import modules_of
from nufed.conf.words import apart, path_of
from nufed.tasks.private import NAME as PRIVATE

COMMAND = "nufed-certify"
DEVICE = "device="  # the run's may not be here
TRUST = "trust="
EXAMPLES = """\
examples:
  nufed-certify                                        the default task, before any training
  nufed-certify algorithm.nu=1 algorithm.alpha=0.1     what other steps would be allowed
  nufed-certify dataset=fashion_mnist --clients 10     less of it, sooner
  nufed-certify runs/digits-nufed/2026-01-01_12-00-00  a run; with diagnostics.every=10 it also
                                                       draws certificate.svg there
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    carry_out(_parser(), _certify, arguments)


def subject(words: Sequence[str]) -> tuple[Config, Path | None]:
    """Return the configuration that is meant, and the run folder if it is of a run.

    Raises
    ------
    InputError
        If the words are neither one run folder nor overrides, or the rows are not here.
    """
    folders, _ = apart(words)
    if not folders:
        config, folder = compose_config(list(words)), None
        let_import(config)
    else:
        name, folder = folders[0], path_of(folders[0]).absolute()
        devices = [word.removeprefix(DEVICE) for word in words if word.startswith(DEVICE)]
        trust = [word.removeprefix(TRUST) for word in words if word.startswith(TRUST)]
        if len(words) > 1 + len(devices) + len(trust):
            raise InputError(
                f"{name}: give one run folder, with device=… and trust=… at most, or overrides as "
                "key=value"
            )
        config = of_run(folder, name, modules_of(",".join(trust)))
        if devices:
            config = replace(config, device=devices[-1])
    if config.dataset["name"] == PRIVATE:
        raise InputError(
            f"dataset={PRIVATE}: the rows are with the clients, and nothing can be measured here; "
            "a run with diagnostics.every=10 measures ‖∇F‖²"
        )
    return config, folder


def _certify(given: argparse.Namespace) -> None:
    # Imported here, so that --help and a mistyped key answer at once.
    from nufed.cli.certificate import certificate
    from nufed.cli.certificate_text import heading, sentences, tables
    from nufed.server_app.terminal import Terminal
    from nufed.theory.estimate import Effort

    config, folder = subject(given.what)
    console = Terminal()
    with console.status("measuring"):
        found = certificate(config, folder, Effort(clients=given.clients, rows=given.rows))
    for line in heading(found):
        console.say(line)
    for table in tables(found):
        console.print(table)
    for line in sentences(found, given.epsilon):
        console.say(line)
    if folder is not None and found.measured:
        from nufed.cli.certificate_svg import draw

        file = folder / "certificate.svg"
        try:
            draw(found, file)
        except OSError as error:
            raise InputError(
                f"{file}: cannot be written ({error.strerror}); copy the run"
            ) from error
        console.say(f"drawn: {file}")


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog=COMMAND,
        description="Measure curvature, noise and heterogeneity of a task's clients; print the "
        "constants of the ν-step objective, the step sizes they allow, and the bound on ‖∇F‖².",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "what", nargs="*", help="a run folder; or overrides such as algorithm.nu=5, as nufed's"
    )
    parser.add_argument("--clients", type=count(2), help="measure so many clients, drawn")
    parser.add_argument("--epsilon", type=_size, help="say how many rounds bring the bound to it")
    parser.add_argument("--rows", type=count(2), help="take so many train rows of each, drawn")
    return parser


def _size(text: str) -> float:
    with suppress(ValueError):
        if 0 < (value := float(text)) < math.inf:
            return value
    raise argparse.ArgumentTypeError(f"{text}: must be a number above 0")


if __name__ == "__main__":
    main()
