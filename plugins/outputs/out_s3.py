"""`<match> @type s3`: an object per chunk in Amazon S3 or a store that speaks its protocol.

*Delivery*: at least once per chunk. An object is there as a whole or not at all, also where it is sent in
parts. A retry whose first attempt had arrived (the answer was lost) finds its own object by the chunk's id in
the metadata and writes nothing. No object is replaced unless `overwrite true` asks for it: objects are
written on the condition that the name is free (`If-None-Match`), where the store knows that.

*Differs from Fluentd*: see docs/s3.md. The main points: the start does not wait for the store;
`%{uuid_flush}` is the same for all attempts of a chunk; an unknown `store_as` is an error.
"""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping
from email.utils import parsedate_to_datetime
from importlib.util import find_spec
from time import time
from typing import Any, ClassVar, Final

from forwarder.api import (
    Chunk,
    ConfigError,
    EventBatch,
    ForwarderError,
    Output,
    formatter_section,
    optional_section,
    section,
    sections,
)
from forwarder.api.archive import ArchivedObject, ArchiveError, ArchiveLayout
from forwarder.api.formatting import CommonFormatter, output_zone
from forwarder.api.inject import Inject
from forwarder.plugins.outputs.s3 import parquet
from forwarder.plugins.outputs.s3.archive import content, listed
from forwarder.plugins.outputs.s3.naming import Names
from forwarder.plugins.outputs.s3.packing import KINDS, packer
from forwarder.plugins.outputs.s3.parameters import Account, Compress, LifecycleRule, Objects

_PART_BYTES: Final = 16 << 20
_CHUNK_ID: Final = "forwarder-chunk"
_CLOCK_SECONDS: Final = 300
"""Stores refuse a request that is fifteen minutes off."""
_OPTIONS: Final = {
    "storage_class": "StorageClass",
    "acl": "ACL",
    "grant_full_control": "GrantFullControl",
    "grant_read": "GrantRead",
    "grant_read_acp": "GrantReadACP",
    "grant_write_acp": "GrantWriteACP",
    "use_server_side_encryption": "ServerSideEncryption",
    "ssekms_key_id": "SSEKMSKeyId",
    "checksum_algorithm": "ChecksumAlgorithm",
    "tagging": "Tagging",
}
_CUSTOMER_KEY: Final = {
    "sse_customer_algorithm": "SSECustomerAlgorithm",
    "sse_customer_key": "SSECustomerKey",  # the SDK adds its MD5
}
_UNCONDITIONAL: Final = ("NotImplemented", "InvalidArgument", "MethodNotAllowed", "501")


class StoreError(ForwarderError):
    """The store did not take an object."""


class S3Output(Account, Objects, Output):
    """Objects in an S3-compatible store."""

    multi_workers_ready = True

    format = formatter_section("How an event is written.", default="out_file")
    inject = optional_section(Inject, "Fields to add.")
    compress = section(Compress, "How objects are compressed.")
    bucket_lifecycle_rules = sections(LifecycleRule, "When objects expire.", name="bucket_lifecycle_rule")

    flat_buffer: ClassVar[bool] = True
    buffer_defaults: ClassVar[Mapping[str, Any]] = {"chunk_keys": ["time"], "timekey": 86400}

    def configure(self) -> None:
        if self.inject is not None:
            self.inject.bind(self.context, self._keys().fields)
        self._check()
        self._lines = None
        if self.store_as == "parquet":
            self._lines = parquet.lines(self.compress, self.format.context.type_name)
        if not self.ssl_verify_peer:
            self.log.warning("ssl_verify_peer false: whoever answers gets the events")
        self._pack = packer(self.store_as, self.compress, self.command_parameter)
        self._extension, self._content_type = KINDS[self.store_as]
        if self.reduced_redundancy:
            self.storage_class = "REDUCED_REDUNDANCY"
        self._names = Names(
            self.s3_object_key_format, given="s3_object_key_format" in self.given, look=self.check_object,
            path=self.path, extension=self._extension, index_format=self.index_format,
            hex_random_length=self.hex_random_length, time_slice_format=self.time_slice_format,
            keys=self._keys(),
        )  # fmt: skip
        if not (self.check_object or self.overwrite or self._names.own):
            self.log.warning(
                "check_object false: in a store that knows no conditional writes objects of the same name "
                "replace each other; add ${chunk_id} to s3_object_key_format"
            )
        self._lock = threading.Lock()
        self._client: Any = None
        self._ready = False
        self._conditional = True
        self._writing: set[str] = set()

    def start(self) -> None:
        if self.check_apikey_on_start:
            threading.Thread(target=self._look, name=f"{self.context.id}-bucket", daemon=True).start()

    def format_batch(self, batch: EventBatch) -> bytes:
        if self.inject is not None:
            batch = self.inject.apply(batch)
        return self.format.format_batch(batch) if self._lines is None else self._lines.format(batch)

    def write(self, chunk: Chunk) -> None:
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - costs megabytes

        try:
            self._prepare()
            self._store(chunk, ClientError)
        except (BotoCoreError, ClientError) as error:
            raise StoreError(f"bucket {self.s3_bucket}: {error}{_clock(error)}") from error

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            if self._client.authorities is not None:
                self._client.authorities.close()

    # ------------------------------------------------------------ the bucket

    def _look(self) -> None:
        try:
            self._prepare()
        except Exception as error:
            self.log.warning("cannot use the bucket yet", bucket=self.s3_bucket, error=error)

    def _prepare(self) -> None:
        """Makes the client, and sees to the bucket, once."""
        from forwarder.plugins.outputs.s3.client import connect  # noqa: PLC0415 - costs megabytes

        with self._lock:
            if self._ready:
                return
            if self._client is None:
                self._client = connect(self, self.buffer.flush_thread_count + 1)
            if self.check_bucket:
                self._ensure_bucket()
            if self.bucket_lifecycle_rules:
                self._ensure_rules()
            self._ready = True

    def _ensure_bucket(self) -> None:
        from botocore.exceptions import ClientError  # noqa: PLC0415 - costs megabytes

        try:
            self._client.head_bucket(Bucket=self.s3_bucket)
            return
        except ClientError as error:
            if _status(error) != 404:
                raise
        if not self.auto_create_bucket:
            raise StoreError(f"the bucket {self.s3_bucket} does not exist, and auto_create_bucket is false")
        more: dict[str, Any] = {}
        if self.s3_region != "us-east-1":
            more["CreateBucketConfiguration"] = {"LocationConstraint": self.s3_region}
        self._client.create_bucket(Bucket=self.s3_bucket, **more)
        self.log.info("bucket created", bucket=self.s3_bucket)

    def _ensure_rules(self) -> None:
        """Puts the bucket's lifecycle rules, where others or none are there."""
        from botocore.exceptions import ClientError  # noqa: PLC0415 - costs megabytes

        wanted = {rule.id: (rule.prefix, rule.expiration_days) for rule in self.bucket_lifecycle_rules}
        try:
            there = self._client.get_bucket_lifecycle_configuration(Bucket=self.s3_bucket)["Rules"]
        except ClientError as error:
            if _status(error) != 404:
                raise
            there = []
        if len(there) == len(wanted) and wanted == {
            rule.get("ID"): (
                rule.get("Filter", rule).get("Prefix", ""), rule.get("Expiration", {}).get("Days")
            )
            for rule in there if rule.get("Status") == "Enabled"
        }:  # fmt: skip
            return
        rules = [
            {"ID": name, "Status": "Enabled", "Filter": {"Prefix": prefix}, "Expiration": {"Days": days}}
            for name, (prefix, days) in sorted(wanted.items())
        ]
        self._client.put_bucket_lifecycle_configuration(
            Bucket=self.s3_bucket, LifecycleConfiguration={"Rules": rules}
        )
        self.log.info("lifecycle rules of the bucket put", bucket=self.s3_bucket)

    # ------------------------------------------------------------ objects

    def _store(self, chunk: Chunk, client_error: type[Exception]) -> None:
        """Writes the chunk's object under the first name that is free."""
        body = b"".join(self._pack(chunk.blocks()))
        index, previous = 0, ""
        while True:
            key = self._names.key(chunk, index, self.extract_placeholders)
            if key == previous and not self.overwrite:
                raise StoreError(f"the object {key} is there already: add %{{index}} to s3_object_key_format")
            replace = self.overwrite and (key == previous or not self.check_object)
            with self._lock:
                taken = key in self._writing and not replace  # by another flush thread
                if not taken:
                    self._writing.add(key)
            try:
                if taken or not self._store_as(key, chunk, body, index, client_error, replace=replace):
                    previous, index = key, index + 1
                    continue
            finally:
                if not taken:
                    with self._lock:
                        self._writing.discard(key)
            self._warn_for_delay(chunk, key)
            return

    def _store_as(
        self, key: str, chunk: Chunk, body: bytes, index: int, client_error: type[Exception], *, replace: bool
    ) -> bool:
        """Writes the object under this name; false: another has it."""
        if self.check_object and not replace and (there := self._there(key, chunk, client_error)):
            return there == "ours"
        options = self._options(chunk, index)
        while True:
            conditional = self._conditional and not replace
            try:
                self._put(key, body, options, conditional=conditional)
                return True
            except client_error as error:
                code, status = _code(error), _status(error)
                if status in (409, 412) and not replace:
                    return self._there(key, chunk, client_error) == "ours"
                if not conditional or not (code in _UNCONDITIONAL or status == 501):
                    raise
                self._conditional = False
                self.log.warning(
                    "the store knows no conditional writes: check_object alone keeps objects from being "
                    "replaced", error=error,
                )  # fmt: skip

    def _there(self, key: str, chunk: Chunk, client_error: type[Exception]) -> str:
        """ "": there is no such object; "ours": an earlier attempt of this chunk wrote it; else "other"."""
        try:
            found = self._client.head_object(Bucket=self.s3_bucket, Key=key, **self._given(_CUSTOMER_KEY))
        except client_error as error:
            if _status(error) == 404:
                return ""
            if _status(error) == 400:
                return "other"  # there, and encrypted with another key
            raise
        return "ours" if found.get("Metadata", {}).get(_CHUNK_ID) == chunk.id.hex() else "other"

    def _put(self, key: str, body: bytes, options: dict[str, Any], *, conditional: bool) -> None:
        names = {"Bucket": self.s3_bucket, "Key": key}
        condition = {"IfNoneMatch": "*"} if conditional and self._conditional else {}
        customer = self._given(_CUSTOMER_KEY)
        if len(body) < self.multipart_threshold:
            self._client.put_object(**names, Body=body, **options, **customer, **condition)
            return
        upload = names | {"UploadId": ""}
        upload["UploadId"] = self._client.create_multipart_upload(**names, **options, **customer)["UploadId"]
        try:
            parts = []
            for number, start in enumerate(range(0, len(body), _PART_BYTES), 1):
                part = self._client.upload_part(
                    **upload, PartNumber=number, Body=body[start : start + _PART_BYTES], **customer
                )
                parts.append({"PartNumber": number, "ETag": part["ETag"]})
            self._client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts}, **condition)
        except BaseException:
            try:
                self._client.abort_multipart_upload(**upload)
            except Exception as error:
                self.log_repeated("the parts of an object stay behind in the store", error=error)
            raise

    def _options(self, chunk: Chunk, index: int) -> dict[str, Any]:
        metadata = {_CHUNK_ID: chunk.id.hex()}
        for name, value in (self.s3_metadata or {}).items():
            text = self.extract_placeholders(str(value), chunk)
            metadata[name] = text.replace("%{index}", self._names.index(index))
        return {"ContentType": self._content_type, "Metadata": metadata} | self._given(_OPTIONS)

    def _given(self, names: Mapping[str, str]) -> dict[str, Any]:
        return {theirs: getattr(self, ours) for ours, theirs in names.items() if getattr(self, ours)}

    def _warn_for_delay(self, chunk: Chunk, key: str) -> None:
        slot = chunk.key.timekey
        if self.warn_for_delay is not None and slot is not None and slot < time() - self.warn_for_delay:
            self.log.warning("delayed events were written", object=key)

    # ------------------------------------------------------------ reading again

    @property
    def archive_bucket(self) -> str:
        """As `forwarder.api.archive.Archive` says; so the other three."""
        return str(self.s3_bucket)

    def archive_layout(self) -> ArchiveLayout:
        if self._lines is not None and self.compress.schema_file is None:
            return ArchiveLayout()
        inject = self.inject
        tag_key = None if inject is None else inject.tag_key or None
        if inject is not None and inject.time_key:
            zone = output_zone(inject.timezone, inject.utc, inject.localtime)
            form = inject.time_format if inject.time_type == "string" else None
            return ArchiveLayout(inject.time_key, tag_key, form, zone)
        written = self.format
        if isinstance(written, CommonFormatter) and written.time_type == "string" and written.time_format:
            return ArchiveLayout(None, tag_key, written.time_format, written.zone)
        return ArchiveLayout(None, tag_key)

    def archived(self, prefix: str) -> Iterator[ArchivedObject]:
        return listed(self._connected(), self.s3_bucket, prefix)

    def read_archived(self, key: str, on_bytes: Callable[[int], object] = lambda _: None) -> Iterator[bytes]:
        return content(self._connected(), self.s3_bucket, key, self._given(_CUSTOMER_KEY), on_bytes)

    def _connected(self) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - costs megabytes

        from forwarder.plugins.outputs.s3.client import connect  # noqa: PLC0415

        with self._lock:
            if self._client is None:
                try:
                    self._client = connect(self, 2)
                except (BotoCoreError, ClientError) as error:
                    raise ArchiveError(f"no credentials for {self.s3_bucket}: {error}") from error
            return self._client

    # ------------------------------------------------------------ checks of the configuration

    def _check(self) -> None:
        if find_spec("boto3") is None:
            raise ConfigError("out_s3 needs the package boto3: pip install 'forwarder[s3]'", param="@type")
        if self.store_as not in KINDS:
            raise ConfigError(f"store_as {self.store_as}: expected one of {', '.join(KINDS)}",
                              param="store_as")  # fmt: skip
        if self.compress.parquet_compression_codec == "lzo":
            raise ConfigError("unsupported compression codec: lzo", param="parquet_compression_codec")
        if self.s3_endpoint is not None and not self.s3_endpoint.startswith(("http://", "https://")):
            raise ConfigError("s3_endpoint: expected a URL with http:// or https://", param="s3_endpoint")
        host = (self.s3_endpoint or "").rstrip("/")
        special = host.endswith("vpce.amazonaws.com") or "fips" in host or "gov" in host
        if host.endswith("amazonaws.com") and not special:
            raise ConfigError("s3_endpoint is for stores other than AWS: use s3_region", param="s3_endpoint")
        if (self.sse_customer_key is None) != (self.sse_customer_algorithm is None):
            raise ConfigError("sse_customer_key and sse_customer_algorithm must be set together",
                              param="sse_customer_key")  # fmt: skip
        if self.sse_customer_key_md5 is not None:
            digest = hashlib.md5((self.sse_customer_key or "").encode(), usedforsecurity=False).digest()
            if base64.b64encode(digest).decode() != self.sse_customer_key_md5:
                raise ConfigError("sse_customer_key_md5 is not the MD5 of sse_customer_key, in base64",
                                  param="sse_customer_key_md5")  # fmt: skip
        if (self.aws_key_id is None) != (self.aws_sec_key is None):
            raise ConfigError("aws_key_id and aws_sec_key must be set together", param="aws_key_id")
        if self.multipart_threshold < _PART_BYTES:
            raise ConfigError("multipart_threshold must be at least 16m", param="multipart_threshold")


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _status(error: Any) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _clock(error: Any) -> str:
    """How wrong the clock is, where that may be why the store refuses. (To a look at an object it gives no
    reason.)"""
    if not hasattr(error, "operation_name") or _status(error) != 403:  # others have no answer
        return ""
    date = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date", "")
    try:
        seconds = parsedate_to_datetime(date).timestamp() - time()
    except ValueError:
        return ""
    if abs(seconds) < _CLOCK_SECONDS:
        return ""
    where = "behind" if seconds > 0 else "ahead of"
    return f" (this machine's clock is {abs(seconds) / 60:.0f} minutes {where} the store's)"
