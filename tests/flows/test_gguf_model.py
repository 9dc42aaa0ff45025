"""A study of a GGUF model whose C is of its own samples: what readers of its results are told."""

from editcollapse.config.study_file import read_study
from flows.study import collapse_study
from storage.ask import ask
from tests.support.study_files import write_study
from tests.support.tiny_gguf import write_twins


def test_study_of_a_gguf_says_what_it_was_dequantised_from(backend, tmp_path):
    twins = write_twins("llama", tmp_path / "models", "Q8_0", file_type=7)
    write_study(
        tmp_path,
        twins.folder,
        model__source=f"'{twins.gguf}'",
        model__dtype="'float32'",
        covariance__kind="'samples'",
        covariance__n_tokens=400,
    )
    results = tmp_path / "results"
    collapse_study(read_study(tmp_path / "study.toml"), str(results))
    found = ask(results, "select source, family, quantization from models")
    assert found.rows() == [("tiny.gguf", "llama", "Q8_0")]
    assert ask(results, "select kind, n_tokens from covariances").rows() == [("samples", 400)]
    assert ask(results, "select count(*) from edits").item() > 0
    page = results / "reports" / "tiny.html"
    assert "float32 dequantised from Q8_0" in page.read_text()
