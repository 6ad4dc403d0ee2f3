package forwarder.tests;

import java.util.List;
import java.util.Map;

import org.elasticsearch.Build;
import org.elasticsearch.client.internal.node.NodeClient;
import org.elasticsearch.ingest.AbstractProcessor;
import org.elasticsearch.ingest.ConfigurationUtils;
import org.elasticsearch.ingest.IngestDocument;
import org.elasticsearch.rest.BaseRestHandler;
import org.elasticsearch.rest.RestRequest;
import org.elasticsearch.rest.RestResponse;
import org.elasticsearch.rest.RestStatus;
import org.elasticsearch.xcontent.XContentBuilder;
import org.elasticsearch.xcontent.XContentFactory;

/** What the small distribution lacks: the answer to `GET /`, and one ingest processor. */
final class Parts {
    private Parts() {}

    /** `GET /` and `HEAD /`: name, version and tagline, as clients ask for them at their start. */
    static final class Root extends BaseRestHandler {
        @Override
        public String getName() {
            return "root";
        }

        @Override
        public List<Route> routes() {
            return List.of(new Route(RestRequest.Method.GET, "/"), new Route(RestRequest.Method.HEAD, "/"));
        }

        @Override
        protected RestChannelConsumer prepareRequest(RestRequest request, NodeClient client) {
            return channel -> {
                Build build = Build.current();
                try (XContentBuilder body = XContentFactory.jsonBuilder().prettyPrint()) {
                    body.startObject();
                    body.field("name", client.settings().get("node.name", ""));
                    body.field("cluster_name", client.settings().get("cluster.name", "elasticsearch"));
                    body.startObject("version");
                    body.field("number", build.version());
                    body.field("build_flavor", build.flavor());
                    body.field("build_type", build.type().displayName());
                    body.field("build_hash", build.hash());
                    body.field("build_date", build.date());
                    body.endObject();
                    body.field("tagline", "You Know, for Search");
                    body.endObject();
                    channel.sendResponse(new RestResponse(RestStatus.OK, body));
                }
            };
        }
    }

    /** The ingest processor `set`: `field` gets `value`. */
    static final class Set extends AbstractProcessor {
        private final String field;
        private final Object value;

        Set(String tag, String description, Map<String, Object> config) {
            super(tag, description);
            field = ConfigurationUtils.readStringProperty("set", tag, config, "field");
            value = ConfigurationUtils.readObject("set", tag, config, "value");
        }

        @Override
        public String getType() {
            return "set";
        }

        @Override
        public IngestDocument execute(IngestDocument document) {
            document.setFieldValue(field, value);
            return document;
        }
    }
}
