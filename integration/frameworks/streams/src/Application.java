import java.time.Duration;
import java.util.Arrays;
import java.util.Properties;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.JoinWindows;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.KTable;

/**
 * An application of Kafka Streams: {@code Application BOOTSTRAP STATE_DIRECTORY KEY=VALUE…}, with further configuration.
 *
 * <ul>
 *   <li>{@code counts}: how often each word was in {@code lines} so far, one record for each occurrence;
 *   <li>{@code teamwork}: each line, by its user, joined with the table {@code teams};
 *   <li>{@code paid}: each line joined with its payment, which is another stream, within an hour.
 * </ul>
 */
public final class Application {
    private Application() {
    }

    public static void main(String[] arguments) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", arguments[0]);
        properties.put("state.dir", arguments[1]);
        properties.put("application.id", "application");
        properties.put("default.key.serde", Serdes.String().getClass());
        properties.put("default.value.serde", Serdes.String().getClass());
        properties.put("statestore.cache.max.bytes", "0");
        properties.put("commit.interval.ms", "200");
        properties.put("consumer.auto.offset.reset", "earliest");
        for (String pair : Arrays.asList(arguments).subList(2, arguments.length)) {
            String[] sides = pair.split("=", 2);
            properties.put(sides[0], sides[1]);
        }

        StreamsBuilder builder = new StreamsBuilder();
        KStream<String, String> lines = builder.stream("lines");
        lines.flatMapValues(line -> Arrays.asList(line.split(" ")).subList(1, 4))
            .groupBy((line, word) -> word)
            .count()
            .toStream()
            .mapValues(count -> Long.toString(count))
            .to("counts");
        KTable<String, String> teams = builder.table("teams");
        lines.map((line, text) -> KeyValue.pair(text.substring(0, text.indexOf(' ')), line))
            .join(teams, (line, team) -> line + " " + team)
            .to("teamwork");
        KStream<String, String> payments = builder.stream("payments");
        lines.join(payments, (line, payment) -> payment, JoinWindows.ofTimeDifferenceWithNoGrace(Duration.ofHours(1))).to("paid");

        KafkaStreams streams = new KafkaStreams(builder.build(), properties);
        streams.setStateListener((now, before) -> System.out.println("state " + now));
        streams.setUncaughtExceptionHandler(failure -> {
            System.out.println("failed");
            failure.printStackTrace();
            Runtime.getRuntime().halt(1);
            return StreamThreadExceptionResponse.SHUTDOWN_APPLICATION;
        });
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            boolean closed = streams.close(Duration.ofSeconds(60));
            System.out.println(closed ? "closed" : "not closed");
            System.out.flush();
        }));
        streams.start();
    }
}
