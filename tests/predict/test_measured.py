"""The page of measured speed: a section a benchmark, and what README shows of it."""

from chainrule.predict.measured import headlines, lines, rows


def result(title: str, **machine: str) -> dict:
    return {
        "title": title,
        "machine": {"processor": "AMD EPYC", "threads": 1, **machine},
        "date": "2026-11-30",
        "rows": [{"size": "small", "chainrule_ms": 1601.6}],
        "method": "process time",
        "left_out": {"jax": "not installed"},
    }


RESULTS = {
    "gpt_step": result("One step of a GPT, beside PyTorch", numpy="2.4", torch="2.13"),
    "blas": result("Products alone", numpy="2.4", micrograd="0.1"),
}
TABLE = [
    "| size | chainrule ms |",
    "| --- | --- |",
    "| small | 1,601.6 |",
    "",
    "Process time.",
    "",
    "jax is left out: not installed",
]


def test_the_page_has_a_section_for_each_benchmark():
    page = list(lines(RESULTS))
    assert [line for line in page if line.startswith("#")] == [
        "# Speed, measured",
        "## One step of a GPT, beside PyTorch",
        "## Products alone",
    ]
    begins = page.index("## Products alone") + 2
    assert page[begins : begins + len(TABLE)] == TABLE
    # All packages that took part, not those of the first benchmark only.
    assert page[-1] == (
        "AMD EPYC, one thread; numpy 2.4, torch 2.13, micrograd 0.1; 2026-11-30."
    )  # fmt: skip


def test_readme_shows_the_headlines_alone():
    shown = list(headlines(RESULTS))
    assert shown[1] == "**One step of a GPT, beside PyTorch.**"
    assert shown[3:-2] == TABLE
    assert shown[-1] == "AMD EPYC, one thread; numpy 2.4, torch 2.13; 2026-11-30."
    assert "Products alone" not in "\n".join(shown)


def test_a_document_links_to_the_benchmarks_of_what_it_builds():
    anchor = "one-step-of-a-gpt-beside-pytorch"
    assert rows(RESULTS) == [("One step of a GPT, beside PyTorch", anchor, "transformers/gpt.md")]
