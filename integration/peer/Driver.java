import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.InputStream;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.apache.kafka.common.utils.Exit;

/**
 * Runs Apache Kafka's console tools: {@code Driver NAME ARGUMENT…} runs one, {@code Driver --serve} runs one after
 * the other in this JVM, since starting a JVM costs far more than what a tool does.
 *
 * <p>To serve means: read a line {@code COUNT INPUT_LENGTH}, COUNT lines (the name of the tool and its arguments) and
 * INPUT_LENGTH bytes (the tool's standard input); run the tool; write a line {@code EXIT_CODE OUTPUT_LENGTH
 * ERROR_LENGTH}, what it wrote to standard output and what it wrote to standard error. The end of the input ends it.
 */
public final class Driver {
    private static final Map<String, String> TOOLS = Map.ofEntries(
        Map.entry("kafka-topics", "org.apache.kafka.tools.TopicCommand"),
        Map.entry("kafka-configs", "kafka.admin.ConfigCommand"),
        Map.entry("kafka-console-producer", "org.apache.kafka.tools.ConsoleProducer"),
        Map.entry("kafka-console-consumer", "org.apache.kafka.tools.consumer.ConsoleConsumer"),
        Map.entry("kafka-console-share-consumer", "org.apache.kafka.tools.consumer.ConsoleShareConsumer"),
        Map.entry("kafka-consumer-groups", "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"),
        Map.entry("kafka-share-groups", "org.apache.kafka.tools.consumer.group.ShareGroupCommand"),
        Map.entry("kafka-streams-groups", "org.apache.kafka.tools.streams.StreamsGroupCommand"),
        Map.entry("kafka-groups", "org.apache.kafka.tools.GroupsCommand"),
        Map.entry("kafka-get-offsets", "org.apache.kafka.tools.GetOffsetShell"),
        Map.entry("kafka-delete-records", "org.apache.kafka.tools.DeleteRecordsCommand"),
        Map.entry("kafka-log-dirs", "org.apache.kafka.tools.LogDirsCommand"),
        Map.entry("kafka-metadata-quorum", "org.apache.kafka.tools.MetadataQuorumCommand"),
        Map.entry("kafka-features", "org.apache.kafka.tools.FeatureCommand"),
        Map.entry("kafka-cluster", "org.apache.kafka.tools.ClusterTool"),
        Map.entry("kafka-broker-api-versions", "org.apache.kafka.tools.BrokerApiVersionsCommand"),
        Map.entry("kafka-producer-perf-test", "org.apache.kafka.tools.ProducerPerformance"),
        Map.entry("kafka-consumer-perf-test", "org.apache.kafka.tools.ConsumerPerformance"),
        Map.entry("kafka-verifiable-producer", "org.apache.kafka.tools.VerifiableProducer"),
        Map.entry("kafka-verifiable-consumer", "org.apache.kafka.tools.VerifiableConsumer"),
        Map.entry("kafka-verifiable-share-consumer", "org.apache.kafka.tools.VerifiableShareConsumer"),
        Map.entry("kafka-transactions", "org.apache.kafka.tools.TransactionsCommand"),
        Map.entry("kafka-acls", "org.apache.kafka.tools.AclCommand"),
        Map.entry("kafka-leader-election", "org.apache.kafka.tools.LeaderElectionCommand"),
        Map.entry("kafka-reassign-partitions", "org.apache.kafka.tools.reassign.ReassignPartitionsCommand"),
        Map.entry("kafka-client-metrics", "org.apache.kafka.tools.ClientMetricsCommand"),
        Map.entry("kafka-dump-log", "org.apache.kafka.tools.DumpLogSegments"),
        Map.entry("kafka-storage", "kafka.tools.StorageTool"));

    /** Thrown where a tool calls {@code Exit.exit}. Some tools catch it as they catch all: the first exit code is the one that counts. */
    private static final class Exited extends Error {
        private static final long serialVersionUID = 1;

        Exited() {
            super("exited", null, false, false);
        }
    }

    private static volatile Integer exitCode;

    private Driver() {
    }

    public static void main(String[] arguments) throws Throwable {
        if (arguments.length == 1 && arguments[0].equals("--serve")) {
            serve();
        } else if (arguments.length == 0) {
            System.err.println("usage: tool NAME ARGUMENT…, with a name of: " + String.join(" ", TOOLS.keySet().stream().sorted().toList()));
            System.exit(2);
        } else {
            call(arguments[0], List.of(arguments).subList(1, arguments.length));
        }
    }

    private static void call(String name, List<String> arguments) throws Throwable {
        String type = TOOLS.get(name);
        if (type == null) {
            throw new IllegalArgumentException("no tool " + name);
        }
        try {
            Class.forName(type).getMethod("main", String[].class).invoke(null, (Object) arguments.toArray(String[]::new));
        } catch (InvocationTargetException failure) {
            throw failure.getCause();
        }
    }

    private static void serve() throws Exception {
        InputStream in = System.in;
        PrintStream out = System.out;
        List<Runnable> hooks = new ArrayList<>();
        Exit.Procedure procedure = (code, message) -> {
            if (exitCode == null) {
                exitCode = code;
            }
            throw new Exited();
        };
        Exit.setExitProcedure(procedure);
        Exit.setHaltProcedure(procedure);
        Exit.setShutdownHookAdder((name, hook) -> hooks.add(hook));
        for (String head = line(in); head != null; head = line(in)) {
            String[] counts = head.split(" ");
            List<String> words = new ArrayList<>();
            for (int i = 0; i < Integer.parseInt(counts[0]); i++) {
                words.add(line(in));
            }
            byte[] input = new byte[Integer.parseInt(counts[1])];
            new DataInputStream(in).readFully(input);
            var output = new ByteArrayOutputStream();
            var errors = new ByteArrayOutputStream();
            System.setIn(new ByteArrayInputStream(input));
            System.setOut(new PrintStream(output, true, StandardCharsets.UTF_8));
            System.setErr(new PrintStream(errors, true, StandardCharsets.UTF_8));
            int code = run(words, hooks);
            System.out.flush();
            System.err.flush();
            out.println(code + " " + output.size() + " " + errors.size());
            output.writeTo(out);
            errors.writeTo(out);
            out.flush();
        }
        Runtime.getRuntime().halt(0);
    }

    private static int run(List<String> words, List<Runnable> hooks) {
        exitCode = null;
        hooks.clear();
        attempt(() -> call(words.get(0), words.subList(1, words.size())));
        for (Runnable hook : List.copyOf(hooks)) {
            attempt(hook::run);
        }
        return exitCode == null ? 0 : exitCode;
    }

    private interface Action {
        void run() throws Throwable;
    }

    private static void attempt(Action action) {
        try {
            action.run();
        } catch (Exited exited) {
            // Its code is kept already.
        } catch (Throwable failure) {
            failure.printStackTrace();
            if (exitCode == null) {
                exitCode = 1;
            }
        }
    }

    private static String line(InputStream in) throws Exception {
        var bytes = new ByteArrayOutputStream();
        int next;
        while ((next = in.read()) != '\n') {
            if (next < 0) {
                return null;
            }
            bytes.write(next);
        }
        return bytes.toString(StandardCharsets.UTF_8);
    }
}
