"""Filter `mask`: replaces the values of some fields."""

from forwarder.api import Record, RecordFilter, array, string


class MaskFilter(RecordFilter):
    """Hides what must not be indexed."""

    fields = array("Fields to hide.", of="string")
    replacement = string("What stands in their place.", "***")

    def filter_record(self, tag: str, time_ns: int, record: Record) -> Record | None:
        for field in self.fields:
            if field in record:
                record[field] = self.replacement
        return record  # None would drop the event
