import java.util.Properties;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * The input of {@link Application}: {@code Feed BOOTSTRAP LINES USERS WORDS LINES_PER_SECOND}.
 *
 * <p>First the team of each user goes to {@code teams}. Line I, to {@code lines} with I as its key, holds its user and three words, and
 * {@code payments} has a payment for it. An idempotent producer writes everything once, however often the broker is killed.
 */
public final class Feed {
    private Feed() {
    }

    public static void main(String[] arguments) throws Exception {
        int lines = Integer.parseInt(arguments[1]);
        int users = Integer.parseInt(arguments[2]);
        int words = Integer.parseInt(arguments[3]);
        int pace = Integer.parseInt(arguments[4]);
        Properties properties = new Properties();
        properties.put("bootstrap.servers", arguments[0]);
        properties.put("acks", "all");
        properties.put("linger.ms", "5");
        properties.put("delivery.timeout.ms", "120000");
        properties.put("key.serializer", StringSerializer.class.getName());
        properties.put("value.serializer", StringSerializer.class.getName());
        AtomicReference<Exception> failure = new AtomicReference<>();
        try (KafkaProducer<String, String> producer = new KafkaProducer<>(properties)) {
            for (int user = 0; user < users; user++) {
                producer.send(new ProducerRecord<>("teams", "user-" + user, "team-" + user % 7));
            }
            producer.flush();
            long began = System.nanoTime();
            for (int line = 0; line < lines; line++) {
                long due = began + 1_000_000_000L * line / pace;
                while (System.nanoTime() < due) {
                    Thread.sleep(2);
                }
                String text = "user-" + line % users + " word-" + line % words + " word-" + line * 7 % words + " word-" + line / 3 % words;
                String key = Integer.toString(line);
                producer.send(new ProducerRecord<>("lines", key, text), (metadata, exception) -> failure.compareAndSet(null, exception));
                producer.send(new ProducerRecord<>("payments", key, "paid-" + line), (metadata, exception) -> failure.compareAndSet(null, exception));
                if (line % 100 == 99) {
                    System.out.println("fed " + (line + 1));
                }
            }
            producer.flush();
        }
        if (failure.get() != null) {
            throw failure.get();
        }
        System.out.println("complete");
    }
}
