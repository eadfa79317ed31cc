"""Whether the compiled modules run, or their Python sources."""

from __future__ import annotations

from tracker.compiled import FOLDER, FORM, Form
from tracker.ops.doctor.finding import Finding
from tracker.settings import Settings


def check(_: Settings) -> list[Finding]:
    return [finding(FORM)]


def finding(form: Form) -> Finding:
    """Pure Python is slower, and no fault. Compiled modules of other sources are one."""
    if not form.is_stale:
        return Finding("form", "ok", form.text)
    advice = f"run make build, or install the wheel again, or remove {FOLDER}"
    return Finding("form", "fail", form.text, advice)
