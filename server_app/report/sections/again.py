"""What repeats the run, and with which code."""

from nufed.conf.command import overrides_of
from nufed.conf.objects import is_of_a_session
from nufed.conf.targets import foreign
from nufed.conf.words import command_line
from nufed.server_app.report.page import Section
from nufed.server_app.report.record import Record


def again(run: Record) -> Section:
    """Say what repeats the run, and with which code."""
    words = overrides_of(run.config)
    summary, text = run.summary or {}, list[str]()
    versions = ", ".join(f"{k} {v}" for k, v in summary.get("versions", {}).items() if v)
    commit = f"commit {summary['git_commit']}" if summary.get("git_commit") else ""
    if code := "; ".join(filter(None, (versions, commit))):
        text.append(f"Made with {code}.")
    if run.config.privacy.name != "none":
        text.append("The noise is not the seed's: another run has another model.")
    session = [k for k, name in foreign(run.config).items() if is_of_a_session(name)]
    if session:
        what = " and ".join(key.removesuffix("._target_") for key in session)
        text.append(
            f"Its {what} was given as an object in a Python session: nufed.train repeats the run "
            "there, with that object and config.yaml in the run folder; no command does."
        )
    elif words is None:
        text.append("No overrides say this configuration; it is config.yaml in the run folder.")
    code = "" if words is None or session else command_line("nufed", words)
    return Section("The same again", text, code=code)
