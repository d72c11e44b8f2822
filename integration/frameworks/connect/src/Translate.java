import java.time.Duration;
import java.util.Map;
import org.apache.kafka.connect.mirror.RemoteClusterUtils;

/** {@code Translate BOOTSTRAP SOURCE GROUP} writes {@code TOPIC PARTITION OFFSET}: where the group of the source cluster is to go on. */
public final class Translate {
    private Translate() {
    }

    public static void main(String[] arguments) throws Exception {
        Map<String, Object> properties = Map.of("bootstrap.servers", arguments[0]);
        RemoteClusterUtils.translateOffsets(properties, arguments[1], arguments[2], Duration.ofSeconds(30)).forEach((partition, offset) ->
            System.out.println(partition.topic() + " " + partition.partition() + " " + offset.offset()));
        System.out.println("upstream clusters: " + RemoteClusterUtils.upstreamClusters(properties));
        System.out.println("hops: " + RemoteClusterUtils.replicationHops(properties, arguments[1]));
    }
}
