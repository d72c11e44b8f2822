// Writes throttle_times.txt: random uses, and for how long the quota managers of Apache Kafka hold a client back for them.
//
// `make test` does not run it; its output is committed. To write it anew, with the jars of Apache Kafka 4.3.1 in
// KAFKA_LIBS:
//
//     javac -cp "$KAFKA_LIBS/*" -d /tmp/throttle ThrottleTimes.java
//     java -cp "/tmp/throttle:$KAFKA_LIBS/*" ThrottleTimes > throttle_times.txt
//
// Lines:
//
//     table <kind> <windows> <seconds of one>
//     quota <limit from now on>
//     <milliseconds since the start> <value> <throttle time in milliseconds>
//     back <value that is taken back>
import java.net.InetAddress;
import java.util.*;
import org.apache.kafka.common.metrics.*;
import org.apache.kafka.common.security.auth.KafkaPrincipal;
import org.apache.kafka.common.utils.*;
import org.apache.kafka.network.Session;
import org.apache.kafka.server.config.ClientQuotaManagerConfig;
import org.apache.kafka.server.quota.*;

public class ThrottleTimes {
    static class Now implements Time {
        long ms = 1_700_000_000_000L;
        public long milliseconds() { return ms; }
        public long nanoseconds() { return ms * 1_000_000; }
        public long hiResClockMs() { return ms; }
        public void sleep(long by) { ms += by; }
        public void waitObject(Object o, java.util.function.Supplier<Boolean> c, long d) { throw new IllegalStateException(); }
        public org.apache.kafka.common.utils.Timer timer(long t) { throw new IllegalStateException(); }
    }
    static Optional<org.apache.kafka.server.quota.ClientQuotaEntity.ConfigEntity> client(String id) {
        return Optional.of(new ClientQuotaManager.ClientIdEntity(id));
    }
    public static void main(String[] args) throws Exception {
        Random random = new Random(4_301);
        Session session = new Session(new KafkaPrincipal("User", "ANONYMOUS"), InetAddress.getLoopbackAddress());
        String[] kinds = {"Produce", "Request", "Strict", "Permissive"};
        for (int table = 0; table < 24; table++) {
            String kind = kinds[table % 4];
            int num = table < 4 ? 11 : 1 + random.nextInt(12), seconds = table < 8 ? 1 : 1 + random.nextInt(4);
            ClientQuotaManagerConfig config = new ClientQuotaManagerConfig(num, seconds);
            Now now = new Now();
            Metrics metrics = new Metrics(new MetricConfig(), new ArrayList<>(), now);
            ClientQuotaManager manager;
            switch (kind) {
                case "Produce": manager = new ClientQuotaManager(config, metrics, QuotaType.PRODUCE, now, ""); break;
                case "Request": manager = new kafka.server.ClientRequestQuotaManager(config, metrics, now, "", Optional.empty()); break;
                default: manager = new ControllerMutationQuotaManager(config, metrics, now, "", Optional.empty());
            }
            System.out.println("table " + kind + " " + num + " " + seconds);
            double limit = 0;
            for (int step = 0; step < 60; step++) {
                if (step == 0 || random.nextInt(20) == 0) {
                    limit = kind.equals("Produce") ? 1 + random.nextInt(100_000) : Math.round((0.1 + random.nextDouble() * 20) * 10) / 10.0;
                    manager.updateQuota(Optional.empty(), client("c"), Optional.of(Quota.upperBound(limit)));
                    System.out.println("quota " + limit);
                }
                int pause = random.nextInt(6);
                now.ms += pause == 0 ? 0 : pause < 4 ? random.nextInt(1_500) : pause == 4 ? random.nextInt(15_000) : random.nextInt(80_000);
                double value = kind.equals("Produce") ? random.nextInt(random.nextInt(4) == 0 ? 2_000_000 : 100_000)
                    : kind.equals("Request") ? Math.round(random.nextDouble() * 1_000) / 8.0 : 1 + random.nextInt(60);
                long throttle;
                if (kind.equals("Permissive")) {
                    ControllerMutationQuota quota = ((ControllerMutationQuotaManager) manager).newPermissiveQuotaFor(session, "c");
                    quota.record(value);
                    throttle = quota.throttleTime();
                } else {
                    throttle = manager.recordAndGetThrottleTimeMs(session, "c", value, now.ms);
                }
                System.out.println((now.ms - 1_700_000_000_000L) + " " + value + " " + throttle);
                if (!kind.equals("Strict") && !kind.equals("Permissive") && throttle > 0 && random.nextInt(3) == 0) {
                    manager.unrecordQuotaSensor(session, "c", value, now.ms);
                    System.out.println("back " + value);
                }
            }
            manager.shutdown();
        }
        System.exit(0);
    }
}
