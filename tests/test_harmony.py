"""The conversations that harness_test.cpp has chat hold are what openai-harmony makes of them."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT


def test_the_recorded_conversations_are_what_the_package_makes(tmp_path):
    pytest.importorskip("openai_harmony", reason="needs the Python package openai-harmony: pip install -r tools/requirements.txt")
    vocabulary = Path(os.environ.get("GETP_VOCAB", ROOT / "../shared/vocab")).resolve()
    if not (vocabulary / "o200k_base.tiktoken").is_file():
        pytest.skip(f"needs o200k_base.tiktoken in {vocabulary}: set GETP_VOCAB to its folder")
    subprocess.run([sys.executable, ROOT / "tests/golden/make_harmony.py", "-o", tmp_path / "harmony.txt"], check=True,
                   env={**os.environ, "GETP_VOCAB": str(vocabulary)})
    assert (tmp_path / "harmony.txt").read_text(encoding="utf-8") == (ROOT / "tests/golden/harmony.txt").read_text(encoding="utf-8")
