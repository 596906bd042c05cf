"""A report on disk, for the tests of its page and of the models it exports."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from flows.prepare.card import DataCard
from flows.records.schema import CellsFile, LatencyFile
from flows.report.recommendation import RecommendationFile
from flows.report.stage import report
from flows.sweep.settings import Report
from tests.flows.store_factory import pictures, write_store

FEW_DRAWS = Report(bootstrap_draws=50, pictures=2)


class Made:
    """A report of the eight cells on disk."""

    def __init__(
        self, root: Path, records: tuple[CellsFile, LatencyFile], config: Report = FEW_DRAWS, card: DataCard | None = None
    ) -> None:
        self.images, self.card = pictures(), card
        self.store = write_store(root / "store", records[0], self.images)
        self.folder, self.best, self.lines = root / "results" / "report", root / "models" / "best", list[str]()
        self.make(records, config)
        self.html = (self.folder / "index.html").read_text()
        self.own = self.html.replace(self.html[self.html.index("<script>") : self.html.index("</script>")], "", 1)  # without Plotly

    @property
    def body(self) -> str:
        """The page without head, figures and pictures: what a text can be compared with."""
        body = re.sub(r"<script.*?</script>", "", self.own[self.own.index("<body>") :], flags=re.S)
        return re.sub(r"data:image/jpeg;base64,[^\"]+", "data:", body)

    def make(self, records: tuple[CellsFile, LatencyFile], config: Report = FEW_DRAWS) -> RecommendationFile:
        """Run the stage on the same folders."""
        places = {"folder": self.folder, "best_folder": self.best}
        return report(*records, self.images, config, **places, store=self.store, say=self.lines.append, card=self.card)

    def recommendation(self) -> dict[str, Any]:
        """The JSON as another program reads it."""
        found: dict[str, Any] = json.loads((self.folder / "recommendation.json").read_text())
        return found
