"""The parameters of the s3 output, by what they are about. Names and defaults are fluent-plugin-s3's."""

from __future__ import annotations

import os

from forwarder.api import (
    Section,
    boolean,
    duration,
    enum,
    float_,
    hash_,
    integer,
    optional_section,
    size,
    string,
)


class Store:
    """Where the bucket is, and how the store is spoken to."""

    s3_bucket = string("Name of the bucket.")
    s3_region = string("Region.", os.environ.get("AWS_REGION", "us-east-1"))
    s3_endpoint = string("URL of a store that is not AWS.", None)
    force_path_style = boolean("The bucket's name in the path instead of in the host name.", False)
    signature_version = string("`v4`, or `s3` for stores that know only version 2; not set: the SDK's.", None)
    compute_checksums = boolean(
        "Checksums in requests that do not require them; not set: for AWS only, because they break other "
        "stores.", None,
    )  # fmt: skip
    checksum_algorithm = string("CRC32, CRC32C, SHA1 or SHA256, kept by the store.", None)
    ssl_verify_peer = boolean("Check the store's certificate and host name.", True)
    ssl_ca_bundle = string("Authorities that may have signed it (PEM); not set: the SDK's.", None)
    ssl_ca_directory = string("Folder with files of authorities (PEM); also beside ssl_ca_bundle.", None)
    use_bundled_cert = boolean("No effect: the SDK's own authorities are the default.", False)
    proxy_uri = string("URL of a proxy.", None)
    enable_transfer_acceleration = boolean("Use AWS's transfer acceleration.", False)
    enable_dual_stack = boolean("Use AWS's IPv6 and IPv4 addresses.", False)
    request_timeout = duration("How long to wait for a connection, and for data.", 60.0)


class Keys:
    """Who we are."""

    aws_key_id = string("Access key.", None, secret=True)
    aws_sec_key = string("Its secret.", None, secret=True)
    aws_profile = string("Profile of the shared configuration files.", None)
    aws_credential_process = string("Command that prints credentials.", None)
    aws_iam_retries = integer(
        "Attempts to get an instance's credentials.", None, deprecated="use <instance_profile_credentials>"
    )


class Objects:
    """What is written, and under which name."""

    path = string("Start of the objects' names; may hold placeholders.", "")
    s3_object_key_format = string("Names of the objects.", "%{path}%{time_slice}_%{index}.%{file_extension}")
    time_slice_format = string("Form of %{time_slice}; not set: as fine as timekey.", None)
    index_format = string("Form of %{index}: `%d`, `%04d`, `%x`, `%X`.", "%d")
    hex_random_length = integer("Digits of %{hex_random}, at most 16.", 4)
    store_as = string("gzip, gzip_command, zstd, lzma2, lzo, json, text or parquet.", "gzip")
    command_parameter = string(
        "Options for gzip, xz or lzop with store_as gzip_command, lzma2 or lzo; without them only lzo runs a "
        "program.", None,
    )  # fmt: skip
    overwrite = boolean("Replace an object of that name.", False)
    check_object = boolean("Ask for the object before it is written, to find a free %{index}.", True)
    check_bucket = boolean("Ask for the bucket before the first object.", True)
    auto_create_bucket = boolean("Make it where it does not exist.", True)
    check_apikey_on_start = boolean("Look at the bucket at the start; a failure is logged.", True)
    multipart_threshold = size("Size from which an object is sent in parts of 16 MiB.", 64 << 20)
    storage_class = string("Storage class.", "STANDARD")
    reduced_redundancy = boolean(
        "REDUCED_REDUNDANCY.", False, deprecated="use storage_class REDUCED_REDUNDANCY"
    )
    acl = string("Canned access list.", None)
    grant_full_control = string("Who gets all rights.", None)
    grant_read = string("Who may read.", None)
    grant_read_acp = string("Who may read the access list.", None)
    grant_write_acp = string("Who may write the access list.", None)
    use_server_side_encryption = string("AES256 or aws:kms.", None)
    ssekms_key_id = string("Key for aws:kms.", None, secret=True)
    sse_customer_algorithm = string("AES256, with our own key.", None)
    sse_customer_key = string("That key.", None, secret=True)
    sse_customer_key_md5 = string("Its MD5 (base64), which is checked at the start.", None, secret=True)
    tagging = string("Tags of the objects, `Key1=Value1&Key2=Value2`.", None)
    s3_metadata = hash_("Metadata of the objects; values may hold placeholders and %{index}.", None)
    warn_for_delay = duration("Log objects whose time slot began longer ago.", None)


class AssumeRole(Section):
    """`<assume_role_credentials>`."""

    role_arn = string("Role.", secret=True)
    role_session_name = string("Name of the session.")
    policy = string("Policy (JSON) that narrows it.", None)
    duration_seconds = integer("How long a session lasts.", None)
    external_id = string("Id that the role asks for.", None, secret=True)
    sts_region = string("Region of the token service.", None)
    sts_http_proxy = string("Proxy for it.", None, secret=True)
    sts_endpoint_url = string("Its URL.", None)


class WebIdentity(Section):
    """`<web_identity_credentials>`."""

    role_arn = string("Role.")
    role_session_name = string("Name of the session.")
    web_identity_token_file = string("File with the token.")
    policy = string("Policy (JSON) that narrows it.", None)
    duration_seconds = integer("How long a session lasts.", None)
    sts_region = string("Region of the token service.", None)
    sts_http_proxy = string("Proxy for it.", None, secret=True)
    sts_endpoint_url = string("Its URL.", None)


class InstanceProfile(Section):
    """`<instance_profile_credentials>`."""

    retries = integer("Attempts.", None)
    ip_address = string("Address of the metadata service.", None)
    port = integer("Its port.", None)
    http_open_timeout = float_("Seconds to wait for a connection or data.", None)
    http_read_timeout = float_("The same; the longer one counts.", None)


class Shared(Section):
    """`<shared_credentials>`."""

    path = string("File; not set: ~/.aws/credentials.", None)
    profile_name = string("Profile; not set: AWS_PROFILE, or default.", None)


class LifecycleRule(Section):
    """`<bucket_lifecycle_rule>`."""

    id = string("Name of the rule.")
    prefix = string("Start of the objects' names.", "")
    expiration_days = integer("Days after which they are removed.")


class Compress(Section):
    """`<compress>`."""

    level = integer("Level of zstd, 1 to 22.", 3)
    parquet_compression_codec = enum(
        "How columns are compressed.",
        ("uncompressed", "snappy", "gzip", "lzo", "brotli", "lz4", "zstd"),
        "snappy",
    )
    parquet_page_size = size("Size of a page.", 8192)
    parquet_row_group_size = size("Size of a row group, before compression.", 128 << 20)
    schema_file = string("Schema of the columns; not set: they are time, tag and record.", None)
    schema_type = enum("Whose form it has.", ("avro", "bigquery"), "avro")
    record_type = enum(
        "With schema_file: which `<format>` there is; msgpack or jsonl (json).",
        ("avro", "csv", "jsonl", "msgpack", "tsv", "json"),
        "msgpack",
    )


class Account(Store, Keys):
    """The store, and who we are there."""

    assume_role_credentials = optional_section(AssumeRole, "A role to take on.")
    web_identity_credentials = optional_section(WebIdentity, "A role to take on by a token.")
    instance_profile_credentials = optional_section(InstanceProfile, "Credentials of the instance.")
    shared_credentials = optional_section(Shared, "Credentials in a file.")
