// Writes assignment.txt: random groups, and what the assignors of Apache Kafka make of them.
//
// `make test` does not run it; its output is committed. To write it anew, with the jars of Apache Kafka 4.3.1 in
// KAFKA_LIBS:
//
//     javac -cp "$KAFKA_LIBS/*" -d /tmp/assignments Assignments.java
//     java -cp "/tmp/assignments:$KAFKA_LIBS/*" org.apache.kafka.coordinator.group.modern.Assignments > assignment.txt
//
// Topics are named by small numbers, which are their ids too: in Java's hash tables they come in their order. Lines:
//
//     topics <number>:<partitions> …
//     member <id> <instance or -> <subscribed topics> <topic>:<partitions that it has> …
//     uniform|range <id> <topic>:<partitions that it gets> …
package org.apache.kafka.coordinator.group.modern;

import java.util.*;
import java.util.stream.Collectors;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.coordinator.group.api.assignor.*;
import org.apache.kafka.coordinator.group.assignor.*;
import org.apache.kafka.coordinator.group.modern.*;

public class Assignments {
    static Uuid topic(int number) { return new Uuid(0, number); }

    static String show(Map<Uuid, Set<Integer>> partitions) {
        return new TreeMap<>(partitions).entrySet().stream().filter(e -> !e.getValue().isEmpty())
            .map(e -> e.getKey().getLeastSignificantBits() + ":" + new TreeSet<>(e.getValue()).stream()
                .map(String::valueOf).collect(Collectors.joining(",")))
            .collect(Collectors.joining(" "));
    }

    public static void main(String[] arguments) {
        Random random = new Random(848);
        for (int round = 0; round < 400; round++) {
            int topicCount = 1 + random.nextInt(5);
            Map<Integer, Integer> partitions = new TreeMap<>();
            for (int topic = 1; topic <= topicCount; topic++) partitions.put(topic, 1 + random.nextInt(12));
            boolean homogeneous = random.nextBoolean();
            int memberCount = 1 + random.nextInt(7);
            Set<Integer> common = subset(random, topicCount);
            Map<Uuid, Map<Integer, String>> inverted = new HashMap<>();
            Map<String, Map<Uuid, Set<Integer>>> old = new TreeMap<>();
            Map<String, Set<Integer>> subscriptions = new TreeMap<>();
            Map<String, String> instances = new TreeMap<>();
            for (int member = 0; member < memberCount; member++) {
                String id = "m" + member;
                old.put(id, new HashMap<>());
                subscriptions.put(id, homogeneous ? common : subset(random, topicCount));
                if (random.nextInt(3) == 0) instances.put(id, "i" + (char) ('a' + random.nextInt(26)) + member);
            }
            // What they have: all, some or none of the partitions, given away at random; some of topics that they do
            // not want any more.
            int share = random.nextInt(4);
            List<String> ids = new ArrayList<>(old.keySet());
            partitions.forEach((topic, count) -> {
                for (int partition = 0; partition < count; partition++) {
                    if (random.nextInt(3) >= share) continue;
                    String id = ids.get(random.nextInt(random.nextBoolean() ? ids.size() : Math.min(2, ids.size())));
                    old.get(id).computeIfAbsent(topic(topic), t -> new HashSet<>()).add(partition);
                    inverted.computeIfAbsent(topic(topic), t -> new HashMap<>()).put(partition, id);
                }
            });
            System.out.println("topics " + partitions.entrySet().stream().map(e -> e.getKey() + ":" + e.getValue())
                .collect(Collectors.joining(" ")));
            Map<String, MemberSubscriptionAndAssignmentImpl> members = new LinkedHashMap<>();
            for (String id : ids) {
                Set<Uuid> wanted = subscriptions.get(id).stream().map(Assignments::topic)
                    .collect(Collectors.toCollection(LinkedHashSet::new));
                Map<Uuid, Set<Integer>> has = Collections.unmodifiableMap(old.get(id));
                members.put(id, new MemberSubscriptionAndAssignmentImpl(
                    Optional.empty(), Optional.ofNullable(instances.get(id)), wanted, new Assignment(has)));
                System.out.println(("member " + id + " " + instances.getOrDefault(id, "-") + " "
                    + subscriptions.get(id).stream().map(String::valueOf).collect(Collectors.joining(","))
                    + " " + show(has)).trim());
            }
            boolean same = new HashSet<>(subscriptions.values()).size() == 1;
            GroupSpec spec = new GroupSpecImpl(members,
                same ? SubscriptionType.HOMOGENEOUS : SubscriptionType.HETEROGENEOUS, inverted);
            SubscribedTopicDescriber describer = new SubscribedTopicDescriber() {
                public int numPartitions(Uuid id) {
                    return partitions.getOrDefault((int) id.getLeastSignificantBits(), -1);
                }
                public Set<String> racksForPartition(Uuid id, int partition) { return Set.of(); }
                public Set<Integer> assignablePartitions(Uuid id) { return Set.of(); }
            };
            for (ConsumerGroupPartitionAssignor assignor : List.of(new UniformAssignor(), new RangeAssignor())) {
                GroupAssignment result = assignor.assign(spec, describer);
                for (String id : ids) {
                    MemberAssignment gets = result.members().get(id);
                    System.out.println((assignor.name() + " " + id + " "
                        + (gets == null ? "" : show(gets.partitions()))).trim());
                }
            }
        }
    }

    static Set<Integer> subset(Random random, int topics) {
        Set<Integer> chosen = new TreeSet<>();
        for (int topic = 1; topic <= topics; topic++) if (random.nextInt(3) > 0) chosen.add(topic);
        if (chosen.isEmpty()) chosen.add(1 + random.nextInt(topics));
        return chosen;
    }
}
