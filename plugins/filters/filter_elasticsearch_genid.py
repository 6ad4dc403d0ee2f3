"""Filter `elasticsearch_genid`: a field with an id for the document, for `id_key` of the output.

The id is random, or with `use_record_as_seed` a digest of the event, so that an event that comes twice has
it twice.

*Delivery*: every event goes on.

*Differs from Fluentd*: a digest of nested arrays joins the outer one only.
"""

from __future__ import annotations

from forwarder import _native
from forwarder.api import ConfigError, EventBatch, Filter, array, boolean, enum, string


class ElasticsearchGenidFilter(Filter):
    """Adds an id to every record."""

    hash_id_key = string("The field that gets the id.", "_hash")
    include_tag_in_seed = boolean("The digest is of the tag too.", False)
    include_time_in_seed = boolean("The digest is of the time too (whole seconds).", False)
    use_record_as_seed = boolean("A digest of the event rather than a random id.", False)
    use_entire_record = boolean("The digest is of all fields.", False)
    record_keys = array("The fields that the digest is of.", [])
    separator = string("Between the parts that the digest is of.", "_")
    hash_type = enum("The digest.", ("md5", "sha1", "sha256", "sha512"), "sha1")

    def configure(self) -> None:
        """Raises ConfigError."""
        super().configure()
        if self.use_record_as_seed and not (self.use_entire_record or self.record_keys):
            raise ConfigError(
                "use_record_as_seed needs record_keys, or use_entire_record", param="record_keys"
            )
        self._native = _native.GenId(
            self.hash_id_key, self.record_keys if self.use_record_as_seed else None,
            self.use_record_as_seed and self.use_entire_record, self.include_tag_in_seed,
            self.include_time_in_seed, self.separator, self.hash_type,
        )  # fmt: skip

    def filter_batch(self, batch: EventBatch) -> EventBatch:
        """The events with ids."""
        return self._native.apply(batch)
