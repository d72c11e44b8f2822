import java.time.Duration;
import java.time.Instant;
import java.util.Map;
import java.util.Set;
import org.apache.kafka.streams.tests.RelationalSmokeTest;
import org.apache.kafka.streams.tests.SmokeTestDriver;

/**
 * Drives the smoke tests of Kafka Streams with as much input as is asked for, which their own programs do not offer; exits with 0 when
 * they pass.
 *
 * <ul>
 *   <li>{@code Smoke smoke BOOTSTRAP KEYS RECORDS_FOR_EACH SECONDS GUARANTEE}
 *   <li>{@code Smoke relational BOOTSTRAP ARTICLES COMMENTS SECONDS}
 * </ul>
 */
public final class Smoke {
    private static final Duration PATIENCE = Duration.ofMinutes(5);

    private Smoke() {
    }

    public static void main(String[] arguments) throws InterruptedException {
        String bootstrap = arguments[1];
        int first = Integer.parseInt(arguments[2]);
        int second = Integer.parseInt(arguments[3]);
        Duration time = Duration.ofSeconds(Long.parseLong(arguments[4]));
        boolean passed;
        if (arguments[0].equals("smoke")) {
            Map<String, Set<Integer>> input = SmokeTestDriver.generate(bootstrap, first, second, time);
            System.out.println("input complete");
            passed = SmokeTestDriver.verify(bootstrap, input, second, arguments[5].equals("exactly_once_v2")).passed();
        } else {
            RelationalSmokeTest.DataSet.generate(first, second).produce(bootstrap, time);
            System.out.println("input complete");
            passed = RelationalSmokeTest.App.verifySync(bootstrap, Instant.now().plus(PATIENCE));
        }
        System.out.println(passed ? "passed" : "failed");
        System.exit(passed ? 0 : 1);
    }
}
