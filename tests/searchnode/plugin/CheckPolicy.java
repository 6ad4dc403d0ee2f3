import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.time.Instant;
import org.elasticsearch.xcontent.XContentParserConfiguration;
import org.elasticsearch.xcontent.json.JsonXContent;
import org.elasticsearch.xpack.core.scheduler.Cron;
import org.elasticsearch.xpack.core.slm.SnapshotLifecyclePolicy;

/** Reads policies, one a line, as Elasticsearch does; says of each when its next two snapshots are, or what is wrong with it. */
class CheckPolicy {
    private static final long START = Instant.parse("2026-11-28T00:00:00Z").toEpochMilli();

    public static void main(String[] arguments) throws Exception {
        var input = new BufferedReader(new InputStreamReader(System.in));
        for (String line; (line = input.readLine()) != null; ) {
            try (var parser = JsonXContent.jsonXContent.createParser(XContentParserConfiguration.EMPTY, line)) {
                var policy = SnapshotLifecyclePolicy.parse(parser, "daily");
                var problem = policy.validate();
                if (problem != null) {
                    System.out.println("refused: " + problem.getMessage());
                    continue;
                }
                if (policy.getSchedule().contains(" ")) {
                    var cron = new Cron(policy.getSchedule());
                    long first = cron.getNextValidTimeAfter(START);
                    long second = cron.getNextValidTimeAfter(first);
                    System.out.println(Instant.ofEpochMilli(first) + " " + Instant.ofEpochMilli(second));
                } else {
                    System.out.println("every " + policy.getSchedule());
                }
            } catch (Exception error) {
                System.out.println("refused: " + error);
            }
        }
    }
}
