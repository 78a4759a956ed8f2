"""The part of `FeatureStore` that defines: feature views and universes."""

from __future__ import annotations

from typing import Any

from .catalogue import definitions, universes
from .catalogue.definitions import FeatureView
from .reading import FeatureReader


class FeatureCatalogue(FeatureReader):
    """The part of `FeatureStore` that registers views and records universes."""

    def register(self, view: FeatureView) -> bool:
        """Register a feature view.

        Parameters
        ----------
        view
            The definition. A change to a registered view needs a new version.

        Returns
        -------
        bool
            False if the same view is registered already.

        Raises
        ------
        DefinitionError
            The version is registered with another content, or a feature belongs to another view.

        Examples
        --------
        >>> store.register(FeatureView("momentum", ["ret_5d", "rsi_14"], owner="alpha team"))
        True
        """
        with self.connection() as conn:
            return definitions.register(conn, view)

    def views(self) -> list[FeatureView]:
        """All registered views, by name and version.

        Examples
        --------
        >>> _ = store.register(FeatureView("momentum", ["ret_5d"]))
        >>> [(view.name, view.version) for view in store.views()]
        [('momentum', 1)]
        """
        with self.connection() as conn:
            return definitions.views(conn)

    def view(self, name: str, version: int | None = None) -> FeatureView:
        """One registered view.

        Parameters
        ----------
        name, version
            By default the newest version.

        Raises
        ------
        DefinitionError
            There is no such view.

        Examples
        --------
        >>> _ = store.register(FeatureView("momentum", ["ret_5d"], owner="alpha team"))
        >>> store.view("momentum").owner
        'alpha team'
        """
        with self.connection() as conn:
            return definitions.find(conn, name, version)

    def record_universe(self, name: str, frame: Any) -> int:
        """Record from when to when entities are part of a universe: listed, or in an index.

        Parameters
        ----------
        name
            Such as "listed" or "sp500".
        frame
            Any source of `mlflow_timescale.common.frames.Frame` with the columns entity_key,
            valid_from and valid_to (aware times, exclusive at the end; missing: open). An entity
            may have several intervals.

        Returns
        -------
        int
            How many intervals were new or changed.

        Raises
        ------
        InvalidValue
            Intervals of an entity overlap, or end before they begin.

        Examples
        --------
        >>> delisted = {"entity_key": ["AAPL"], "valid_to": [dates[1] + pd.Timedelta(hours=30)]}
        >>> store.record_universe("listed", delisted)
        1
        >>> store.explain(spine, "ret_5d", universe="listed")["reason"].dropna().tolist()
        ['outside of the universe']
        """
        with self.connection() as conn:
            return universes.record(conn, name, frame)
