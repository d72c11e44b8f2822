// Writes assignment.txt: random groups, and what the sticky assignor of Apache Kafka makes of them; and, with the
// argument `records`, the records of a streams group in Kafka's bytes, which stand in tests.rs.
//
// `make test` does not run it; its output is committed. To write it anew, with the jars of Apache Kafka 4.3.1 in
// KAFKA_LIBS:
//
//     javac -cp "$KAFKA_LIBS/*" -d /tmp/streams Streams.java
//     java -cp "/tmp/streams:$KAFKA_LIBS/*" org.apache.kafka.coordinator.group.streams.Streams > assignment.txt
//
// Lines:
//
//     topology <standby replicas> <subtopology>:<tasks>:<stateful or -> …
//     member <id> <process> <active tasks> | <standby tasks>     (what it had)
//     gets <id> <active tasks> | <standby tasks>
package org.apache.kafka.coordinator.group.streams;

import java.util.*;
import java.util.stream.Collectors;
import org.apache.kafka.coordinator.common.runtime.CoordinatorRecord;
import org.apache.kafka.coordinator.group.GroupCoordinatorRecordSerde;
import org.apache.kafka.coordinator.group.generated.*;
import org.apache.kafka.coordinator.group.streams.assignor.*;

public class Streams {
    static String show(Map<String, Set<Integer>> tasks) {
        return new TreeMap<>(tasks).entrySet().stream().filter(e -> !e.getValue().isEmpty())
            .map(e -> e.getKey() + ":" + new TreeSet<>(e.getValue()).stream()
                .map(String::valueOf).collect(Collectors.joining(",")))
            .collect(Collectors.joining(" "));
    }

    static String line(String first, Map<String, Set<Integer>> active, Map<String, Set<Integer>> standby) {
        return (first + " " + show(active) + " | " + show(standby)).replaceAll(" +", " ").trim();
    }

    public static void main(String[] arguments) {
        if (arguments.length > 0) records();
        else assignments();
    }

    static void assignments() {
        Random random = new Random(1071);
        for (int round = 0; round < 250; round++) {
            int subtopologies = 1 + random.nextInt(4);
            SortedMap<String, Integer> tasks = new TreeMap<>();
            Set<String> stateful = new TreeSet<>();
            for (int subtopology = 0; subtopology < subtopologies; subtopology++) {
                String id = String.valueOf(subtopology);
                tasks.put(id, 1 + random.nextInt(12));
                if (random.nextBoolean()) stateful.add(id);
            }
            int standbys = random.nextInt(3);
            int processes = 1 + random.nextInt(6);
            int members = processes + random.nextInt(8);
            TreeMap<String, String> processOf = new TreeMap<>();
            for (int member = 0; member < members; member++) {
                long id = random.nextLong();
                String process = "process-" + (member < processes ? member : random.nextInt(processes)) * 7919;
                processOf.put(Long.toHexString(id) + "-" + member, process);
            }
            List<String> ids = new ArrayList<>(processOf.keySet());
            Map<String, Map<String, Set<Integer>>> active = new HashMap<>(), standby = new HashMap<>();
            ids.forEach(id -> { active.put(id, new HashMap<>()); standby.put(id, new HashMap<>()); });
            // What they had: all, some or none of the tasks, at random; some of subtopologies that are gone.
            int share = random.nextInt(4);
            List<String> old = new ArrayList<>(tasks.keySet());
            if (random.nextInt(5) == 0) old.add("gone");
            for (String subtopology : old) {
                for (int task = 0; task < tasks.getOrDefault(subtopology, 3); task++) {
                    if (random.nextInt(3) >= share) continue;
                    String id = ids.get(random.nextInt(random.nextBoolean() ? ids.size() : Math.min(2, ids.size())));
                    active.get(id).computeIfAbsent(subtopology, s -> new HashSet<>()).add(task);
                    for (int copy = 0; copy < random.nextInt(3); copy++) {
                        String other = ids.get(random.nextInt(ids.size()));
                        if (processOf.get(other).equals(processOf.get(id))) continue;
                        standby.get(other).computeIfAbsent(subtopology, s -> new HashSet<>()).add(task);
                    }
                }
            }
            System.out.println("topology " + standbys + " " + tasks.entrySet().stream()
                .map(e -> e.getKey() + ":" + e.getValue() + ":" + (stateful.contains(e.getKey()) ? "stateful" : "-"))
                .collect(Collectors.joining(" ")));
            Map<String, AssignmentMemberSpec> specs = new HashMap<>();
            for (String id : ids) {
                specs.put(id, new AssignmentMemberSpec(Optional.empty(), Optional.empty(), active.get(id),
                    standby.get(id), Map.of(), processOf.get(id), Map.of(), Map.of(), Map.of()));
                System.out.println(line("member " + id + " " + processOf.get(id), active.get(id), standby.get(id)));
            }
            TopologyDescriber topology = new TopologyDescriber() {
                public List<String> subtopologies() { return List.copyOf(tasks.keySet()); }
                public int maxNumInputPartitions(String id) { return tasks.get(id); }
                public boolean isStateful(String id) { return stateful.contains(id); }
            };
            GroupAssignment result = new StickyTaskAssignor().assign(
                new GroupSpecImpl(specs, Map.of("num.standby.replicas", String.valueOf(standbys))), topology);
            for (String id : ids) {
                MemberAssignment gets = result.members().get(id);
                System.out.println(line("gets " + id, gets.activeTasks(), gets.standbyTasks()));
            }
        }
    }

    static void records() {
        TasksTupleWithEpochs has = new TasksTupleWithEpochs(
            Map.of("0", Map.of(0, 3, 2, 4), "1", Map.of(1, 5)), Map.of("1", Set.of(0)), Map.of("0", Set.of(5)));
        TasksTupleWithEpochs gives = new TasksTupleWithEpochs(
            Map.of("0", Map.of(1, 2)), Map.of("1", Set.of(2, 3)), Map.of());
        StreamsGroupMember member = StreamsGroupMember.Builder.withDefaults("m")
            .setRackId("r").setClientId("c").setClientHost("/127.0.0.1").setRebalanceTimeoutMs(60000)
            .setTopologyEpoch(3).setProcessId("p")
            .setUserEndpoint(new StreamsGroupMemberMetadataValue.Endpoint().setHost("h").setPort(50000))
            .setClientTags(Map.of("b", "2", "a", "1"))
            .setMemberEpoch(5).setPreviousMemberEpoch(4).setState(MemberState.UNREVOKED_TASKS)
            .setAssignedTasks(has).setTasksPendingRevocation(gives).build();
        StreamsGroupTopologyValue topology = new StreamsGroupTopologyValue().setEpoch(3).setSubtopologies(List.of(
            new StreamsGroupTopologyValue.Subtopology().setSubtopologyId("0").setSourceTopics(List.of("in", "more"))
                .setRepartitionSinkTopics(List.of("rep")).setCopartitionGroups(List.of(
                    new StreamsGroupTopologyValue.CopartitionGroup().setSourceTopics(List.of((short) 0, (short) 1)))),
            new StreamsGroupTopologyValue.Subtopology().setSubtopologyId("1").setSourceTopicRegex(List.of("x.*"))
                .setStateChangelogTopics(List.of(new StreamsGroupTopologyValue.TopicInfo().setName("log")
                    .setReplicationFactor((short) 2).setTopicConfigs(List.of(
                        new StreamsGroupTopologyValue.TopicConfig().setKey("cleanup.policy").setValue("compact")))))
                .setRepartitionSourceTopics(List.of(
                    new StreamsGroupTopologyValue.TopicInfo().setName("rep").setPartitions(4)))));
        show("EPOCH", StreamsCoordinatorRecordHelpers.newStreamsGroupMetadataRecord(
            "g", 7, 42, 3, Map.of("num.standby.replicas", "1")));
        show("EPOCH_EARLY", StreamsCoordinatorRecordHelpers.newStreamsGroupMetadataRecord("g", 2, 0, -1, Map.of()));
        show("MEMBER", StreamsCoordinatorRecordHelpers.newStreamsGroupMemberRecord("g", member));
        show("PLAIN_MEMBER", StreamsCoordinatorRecordHelpers.newStreamsGroupMemberRecord("g",
            StreamsGroupMember.Builder.withDefaults("m").build()));
        show("TARGET_EPOCH", StreamsCoordinatorRecordHelpers.newStreamsGroupTargetAssignmentMetadataRecord(
            "g", 6, 1_700_000_000_000L));
        show("TARGET", StreamsCoordinatorRecordHelpers.newStreamsGroupTargetAssignmentRecord("g", "m",
            new TasksTuple(Map.of("0", Set.of(0, 2), "1", Set.of(1)), Map.of("1", Set.of(0)), Map.of("0", Set.of(5)))));
        show("CURRENT", StreamsCoordinatorRecordHelpers.newStreamsGroupCurrentAssignmentRecord("g", member));
        show("TOPOLOGY", StreamsCoordinatorRecordHelpers.newStreamsGroupTopologyRecord("g", topology));
        show("GONE", StreamsCoordinatorRecordHelpers.newStreamsGroupTopologyRecordTombstone("g"));
    }

    static void show(String name, CoordinatorRecord record) {
        GroupCoordinatorRecordSerde serde = new GroupCoordinatorRecordSerde();
        byte[] value = serde.serializeValue(record);
        HexFormat hex = HexFormat.of();
        System.out.println(name + " " + hex.formatHex(serde.serializeKey(record)) + " "
            + (value == null ? "-" : hex.formatHex(value)));
    }
}
