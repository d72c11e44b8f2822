// Writes simple.txt: random groups, and what the share group assignor of Apache Kafka makes of them.
//
// `make test` does not run it; its output is committed. To write it anew, with the jars of Apache Kafka 4.3.1 in
// KAFKA_LIBS:
//
//     javac -cp "$KAFKA_LIBS/*" -d /tmp/assignments SimpleAssignments.java
//     java -cp "/tmp/assignments:$KAFKA_LIBS/*" org.apache.kafka.coordinator.group.modern.SimpleAssignments > simple.txt
//
// Topics are named by the number of their first partition, when all partitions are counted. Their ids are such that all
// partitions come in that order in Java's hash tables, which is why there are few of them. Lines:
//
//     topics <topic>:<partitions> …
//     assignable <topic>:<partitions that may be assigned> …
//     member <id> <subscribed topics> <topic>:<partitions that it has> …
//     simple <id> <topic>:<partitions that it gets> …
package org.apache.kafka.coordinator.group.modern;

import java.util.*;
import java.util.stream.Collectors;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.coordinator.group.api.assignor.*;
import org.apache.kafka.coordinator.group.assignor.*;

public class SimpleAssignments {
    // 31 times this number is 1, in 32 bits: the hash of partition p of a topic is where its topic begins, plus p.
    static final int INVERSE = (int) 3186588639L;

    static String show(Map<Uuid, Set<Integer>> partitions, Map<Uuid, Integer> numbers) {
        Map<Integer, Set<Integer>> named = new TreeMap<>();
        partitions.forEach((id, list) -> { if (!list.isEmpty()) named.put(numbers.get(id), new TreeSet<>(list)); });
        return named.entrySet().stream()
            .map(e -> e.getKey() + ":" + e.getValue().stream().map(String::valueOf).collect(Collectors.joining(",")))
            .collect(Collectors.joining(" "));
    }

    public static void main(String[] arguments) {
        Random random = new Random(932);
        for (int round = 0; round < 600; round++) {
            int topicCount = 1 + random.nextInt(4);
            boolean homogeneous = random.nextBoolean();
            int memberCount = 1 + random.nextInt(12);
            Set<Integer> common = subset(random, topicCount);
            List<String> ids = new ArrayList<>();
            Map<String, Set<Integer>> subscriptions = new TreeMap<>();
            for (int member = 0; member < memberCount; member++) {
                String id = "m" + (char) ('a' + member);
                ids.add(id);
                subscriptions.put(id, homogeneous ? common : subset(random, topicCount));
            }
            Set<Integer> wanted = new TreeSet<>();
            subscriptions.values().forEach(wanted::addAll);
            // The partitions of topics that somebody wants have the first numbers.
            List<Integer> order = new ArrayList<>(wanted);
            for (int topic = 1; topic <= topicCount; topic++) if (!wanted.contains(topic)) order.add(topic);
            Map<Integer, Integer> counts = new TreeMap<>();
            Map<Integer, Integer> counted = new TreeMap<>();
            Map<Integer, Integer> begins = new TreeMap<>();
            Map<Integer, Uuid> topics = new TreeMap<>();
            Map<Uuid, Integer> numbers = new HashMap<>();
            Map<Uuid, Integer> countOf = new HashMap<>();
            Map<Uuid, Set<Integer>> assignable = new HashMap<>();
            boolean all = random.nextInt(3) > 0;
            int begin = 0;
            for (int topic : order) {
                int count = 1 + random.nextInt(4);
                counts.put(topic, count);
                Uuid id = new Uuid(0, Integer.toUnsignedLong(begin * INVERSE));
                topics.put(topic, id);
                numbers.put(id, begin);
                begins.put(topic, begin);
                countOf.put(id, count);
                begin += count;
                // The last topic has perhaps grown, and its new partitions are not initialised.
                boolean last = topic == order.get(wanted.size() - 1);
                int initialized = all || !last ? count : random.nextInt(count + 1);
                counted.put(topic, initialized);
                Set<Integer> set = new HashSet<>();
                for (int p = 0; p < initialized; p++) set.add(p);
                if (!set.isEmpty()) assignable.put(id, set);
            }
            Map<String, Map<Uuid, Set<Integer>>> old = new TreeMap<>();
            int share = random.nextInt(4);
            for (String id : ids) {
                Map<Uuid, Set<Integer>> has = new HashMap<>();
                for (int topic : order) for (int p = 0; p < counted.get(topic); p++) {
                    if (random.nextInt(4) < share && random.nextInt(2) == 0)
                        has.computeIfAbsent(topics.get(topic), t -> new HashSet<>()).add(p);
                }
                old.put(id, has);
            }
            System.out.println("topics " + begins.entrySet().stream().map(e -> e.getValue() + ":" + counts.get(e.getKey()))
                .collect(Collectors.joining(" ")));
            System.out.println(("assignable " + show(assignable, numbers)).trim());
            Map<String, MemberSubscriptionAndAssignmentImpl> members = new LinkedHashMap<>();
            for (String id : ids) {
                Set<Uuid> wants = subscriptions.get(id).stream().map(topics::get)
                    .collect(Collectors.toCollection(LinkedHashSet::new));
                members.put(id, new MemberSubscriptionAndAssignmentImpl(
                    Optional.empty(), Optional.empty(), wants, new Assignment(Collections.unmodifiableMap(old.get(id)))));
                System.out.println(("member " + id + " "
                    + subscriptions.get(id).stream().map(begins::get).map(String::valueOf).collect(Collectors.joining(","))
                    + " " + show(old.get(id), numbers)).trim());
            }
            boolean same = new HashSet<>(subscriptions.values()).size() == 1;
            GroupSpec spec = new GroupSpecImpl(members,
                same ? SubscriptionType.HOMOGENEOUS : SubscriptionType.HETEROGENEOUS, Map.of(),
                Optional.of(assignable));
            SubscribedTopicDescriber describer = new SubscribedTopicDescriber() {
                public int numPartitions(Uuid id) { return countOf.get(id); }
                public Set<String> racksForPartition(Uuid id, int partition) { return Set.of(); }
                public Set<Integer> assignablePartitions(Uuid id) { return assignable.getOrDefault(id, Set.of()); }
            };
            GroupAssignment result = new SimpleAssignor().assign(spec, describer);
            for (String id : ids) {
                MemberAssignment gets = result.members().get(id);
                System.out.println(("simple " + id + " " + (gets == null ? "" : show(gets.partitions(), numbers))).trim());
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
