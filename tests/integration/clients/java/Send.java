// Sends COUNT events with fluency: java Send.java PORT COUNT TAG ACK SSL (the last two: true or false).
// Ends with 0 only if everything was flushed (with ACK: acknowledged).
import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import org.komamitsu.fluency.EventTime;
import org.komamitsu.fluency.Fluency;
import org.komamitsu.fluency.fluentd.FluencyBuilderForFluentd;

public class Send {
  public static void main(String[] arguments) throws Exception {
    int port = Integer.parseInt(arguments[0]);
    int count = Integer.parseInt(arguments[1]);
    FluencyBuilderForFluentd builder = new FluencyBuilderForFluentd();
    builder.setAckResponseMode(Boolean.parseBoolean(arguments[3]));
    builder.setSslEnabled(Boolean.parseBoolean(arguments[4]));
    Fluency client = builder.build("127.0.0.1", port);
    for (int i = 0; i < count; i++) {
      Map<String, Object> record = new HashMap<>();
      record.put("i", i);
      record.put("text", "snow \u2603");
      record.put("nested", Map.of("list", Arrays.asList(1, 2.5, null)));
      client.emit(arguments[2], EventTime.fromEpochMilli(System.currentTimeMillis()), record);
    }
    client.flush();
    boolean flushed = client.waitUntilAllBufferFlushed(30);
    client.close();
    System.exit(flushed && client.waitUntilFlusherTerminated(30) ? 0 : 1);
  }
}
