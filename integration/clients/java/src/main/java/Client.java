import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import java.util.stream.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.*;
import org.apache.kafka.common.serialization.*;

/** The common scenarios, played with Apache Kafka's own Java client: {@code Client SCENARIO HOST:PORT}. */
public final class Client {
    private final String bootstrap;
    private final String topic;
    private final Admin admin;

    private Client(String scenario, String bootstrap) {
        this.bootstrap = bootstrap;
        this.topic = "java-" + scenario + "-" + UUID.randomUUID();
        this.admin = Admin.create(Map.of("bootstrap.servers", bootstrap, "request.timeout.ms", 10000, "default.api.timeout.ms", 15000));
    }

    public static void main(String[] args) {
        int code = 0;
        try {
            Client client = new Client(args[0], args[1]);
            client.run(args[0]);
        } catch (Throwable problem) {
            Throwable cause = problem instanceof ExecutionException && problem.getCause() != null ? problem.getCause() : problem;
            StackTraceElement where = Arrays.stream(problem.getStackTrace()).filter(f -> f.getClassName().startsWith("Client")).findFirst().orElse(null);
            System.err.println("java: " + args[0] + ": " + cause + " (" + where + ")");
            code = 1;
        }
        Runtime.getRuntime().halt(code);
    }

    private void run(String scenario) throws Exception {
        switch (scenario) {
            case "produce-consume" -> produceConsume();
            case "idempotent" -> idempotent();
            case "group-rebalance" -> groupRebalance();
            case "consumer-protocol" -> consumerProtocol();
            case "share-groups" -> shareGroups();
            case "transactions" -> transactions();
            case "commit-resume" -> commitResume();
            case "offsets-by-time" -> offsetsByTime();
            case "admin" -> administration();
            case "large-message" -> largeMessage();
            case "unknown-topic" -> unknownTopic();
            case "broker-restart" -> brokerRestart();
            default -> throw new IllegalArgumentException("no scenario " + scenario);
        }
    }

    // --- the scenarios

    private void produceConsume() throws Exception {
        create(1);
        long base = System.currentTimeMillis() - 100_000;
        int offset = 0;
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            try (var producer = producer(Map.of("compression.type", codec, "linger.ms", 20))) {
                List<Future<RecordMetadata>> sent = new ArrayList<>();
                for (int i = 0; i < 50; i++) {
                    var record = new ProducerRecord<>(topic, 0, base + i, i == 7 ? null : codec + "-" + i, i == 9 ? null : value(i));
                    record.headers().add("h", bytes("1")).add("h", bytes("2")).add("empty", new byte[0]).add("absent", null);
                    sent.add(producer.send(record));
                }
                for (var future : sent) {
                    same(codec + " offset", (long) offset++, future.get(60, TimeUnit.SECONDS).offset());
                }
            }
        }
        List<ConsumerRecord<String, String>> records = readAll(250);
        offset = 0;
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            for (int i = 0; i < 50; i++, offset++) {
                var record = records.get(offset);
                same("offset", (long) offset, record.offset());
                same("key", i == 7 ? null : codec + "-" + i, record.key());
                same("value", i == 9 ? null : value(i), record.value());
                same("timestamp", base + i, record.timestamp());
                same("headers", "h=1 h=2 empty= absent=null", headers(record));
            }
        }
    }

    private void idempotent() throws Exception {
        create(3);
        try (var producer = producer(Map.of("enable.idempotence", true, "acks", "all", "batch.size", 500, "linger.ms", 1))) {
            send(producer, 0, 1500);
        }
        inOrderOnce(1500);
    }

    private void groupRebalance() throws Exception {
        create(6);
        List<Member> members = new ArrayList<>();
        for (int i = 0; i < 3; i++) {
            members.add(new Member());
        }
        until(60, "2 partitions for each of 3 members", () -> shared(members, 2));
        members.remove(1).close();
        until(60, "3 partitions for each of 2 members", () -> shared(members, 3));
        var group = admin.describeConsumerGroups(List.of(topic)).all().get().get(topic);
        same("state", GroupState.STABLE, group.groupState());
        same("members", 2, group.members().size());
        for (Member member : members) {
            member.close();
        }
    }

    /** Groups whose members the broker assigns (KIP-848), and a group that goes from one protocol to the other. */
    private void consumerProtocol() throws Exception {
        create(6);
        List<Member> members = new ArrayList<>();
        for (int i = 0; i < 3; i++) {
            members.add(new Member("consumer"));
        }
        until(60, "2 partitions for each of 3 members", () -> shared(members, 2));
        members.remove(1).close();
        until(60, "3 partitions for each of 2 members", () -> shared(members, 3));
        var group = admin.describeConsumerGroups(List.of(topic)).all().get().get(topic);
        same("type", GroupType.CONSUMER, group.type());
        same("members", 2, group.members().size());

        members.add(new Member("classic"));
        until(60, "2 partitions for each of 3 members of both protocols", () -> shared(members, 2));
        members.remove(0).close();
        members.remove(0).close();
        until(60, "all partitions for the member of the classic protocol", () -> shared(members, 6));
        same("type", GroupType.CLASSIC, admin.describeConsumerGroups(List.of(topic)).all().get().get(topic).type());
        members.add(new Member("consumer"));
        until(60, "3 partitions for each of 2 members of both protocols", () -> shared(members, 3));
        for (Member member : members) {
            member.close();
        }

        try (var producer = producer(Map.of())) {
            send(producer, 0, 60);
        }
        try (var consumer = consumer(Map.of("group.id", topic + "-pattern", "group.protocol", "consumer", "group.remote.assignor", "range"))) {
            consumer.subscribe(new SubscriptionPattern(topic.substring(0, topic.length() - 3) + ".+"));
            same("records of the topics that match", 60, poll(consumer, 60).size());
            consumer.commitSync();
        }
        same("committed", 10L, admin.listConsumerGroupOffsets(topic + "-pattern").partitionsToOffsetAndMetadata().get().get(new TopicPartition(topic, 5)).offset());
        try (var consumer = consumer(Map.of("group.id", topic + "-pattern", "group.protocol", "consumer"))) {
            fails(InvalidRegularExpression.class, CompletableFuture.runAsync(() -> {
                consumer.subscribe(new SubscriptionPattern("("));
                poll(consumer, 1);
            }));
        }
    }

    /** Records and offsets that count together or not at all, and a producer that another one replaces. */
    private void transactions() throws Exception {
        create(2);
        var partition = new TopicPartition(topic, 0);
        Map<String, Object> options = Map.of("transactional.id", topic);
        try (var first = producer(options); var second = producer(options); var group = consumer(Map.of("group.id", topic))) {
            first.initTransactions();
            for (int i = 0; i < 20; i++) {
                boolean aborts = i % 4 == 3;
                first.beginTransaction();
                for (int p = 0; p < 2; p++) {
                    first.send(new ProducerRecord<>(topic, p, "k", (aborts ? "aborted-" : "committed-") + i));
                }
                first.sendOffsetsToTransaction(Map.of(partition, new OffsetAndMetadata(i)), group.groupMetadata());
                if (aborts) {
                    first.flush();
                    first.abortTransaction();
                } else {
                    first.commitTransaction();
                }
            }
            same("group offset", 18L, admin.listConsumerGroupOffsets(topic).partitionsToOffsetAndMetadata().get().get(partition).offset());
            first.beginTransaction();
            first.send(new ProducerRecord<>(topic, 0, "k", "zombie")).get(60, TimeUnit.SECONDS);
            var committed = new ListOffsetsOptions(IsolationLevel.READ_COMMITTED);
            same("last stable offset", 40L, admin.listOffsets(Map.of(partition, OffsetSpec.latest()), committed).partitionResult(partition).get().offset());
            same("high watermark", 41L, offsetFor(OffsetSpec.latest()));
            same("state", TransactionState.ONGOING, admin.describeTransactions(List.of(topic)).description(topic).get().state());
            second.initTransactions();
            boolean fenced = false;
            try {
                first.commitTransaction();
            } catch (ProducerFencedException e) {
                fenced = true;
            }
            check(fenced, "the first producer was not fenced");
            second.beginTransaction();
            second.send(new ProducerRecord<>(topic, 0, "k", "committed-20"));
            second.commitTransaction();
        }
        try (var consumer = consumer(Map.of("isolation.level", "read_committed"))) {
            consumer.assign(List.of(partition, new TopicPartition(topic, 1)));
            consumer.seekToBeginning(consumer.assignment());
            var values = poll(consumer, 31).stream().map(ConsumerRecord::value).toList();
            check(values.stream().allMatch(value -> value.startsWith("committed-")), "aborted records were read: " + values);
            check(values.contains("committed-20"), "the second producer's record is missing");
        }
        check(admin.listTransactions().all().get().stream().anyMatch(t -> t.transactionalId().equals(topic)), "the transactional id is not in the list");
    }

    private void commitResume() throws Exception {
        create(1);
        try (var producer = producer(Map.of())) {
            send(producer, 0, 100);
        }
        var partition = new TopicPartition(topic, 0);
        try (var consumer = consumer(Map.of("group.id", topic, "max.poll.records", 40))) {
            consumer.subscribe(List.of(topic));
            same("first records", 40, poll(consumer, 40).size());
            consumer.commitSync(Map.of(partition, new OffsetAndMetadata(40, "forty")));
        }
        try (var consumer = consumer(Map.of("group.id", topic))) {
            consumer.subscribe(List.of(topic));
            same("first record after the commit", 40L, poll(consumer, 60).get(0).offset());
            var committed = consumer.committed(Set.of(partition)).get(partition);
            same("committed", "40 forty", committed.offset() + " " + committed.metadata());
        }
        same("lag", 40L, admin.listConsumerGroupOffsets(topic).partitionsToOffsetAndMetadata().get().get(partition).offset());
    }

    private void offsetsByTime() throws Exception {
        create(1);
        long base = System.currentTimeMillis() - 1_000_000;
        try (var producer = producer(Map.of())) {
            for (int i = 0; i < 20; i++) {
                producer.send(new ProducerRecord<>(topic, 0, base + i * 1000, "k", "" + i)).get(60, TimeUnit.SECONDS);
            }
        }
        var partition = new TopicPartition(topic, 0);
        try (var consumer = consumer(Map.of())) {
            same("exact", 5L, consumer.offsetsForTimes(Map.of(partition, base + 5000)).get(partition).offset());
            var between = consumer.offsetsForTimes(Map.of(partition, base + 5001)).get(partition);
            same("between", "6 " + (base + 6000), between.offset() + " " + between.timestamp());
            same("before all", 0L, consumer.offsetsForTimes(Map.of(partition, 0L)).get(partition).offset());
            same("after all", null, consumer.offsetsForTimes(Map.of(partition, base + 10_000_000)).get(partition));
            same("beginning", 0L, consumer.beginningOffsets(Set.of(partition)).get(partition));
            same("end", 20L, consumer.endOffsets(Set.of(partition)).get(partition));
        }
        same("earliest", 0L, offsetFor(OffsetSpec.earliest()));
        same("latest", 20L, offsetFor(OffsetSpec.latest()));
        same("largest timestamp", 19L, offsetFor(OffsetSpec.maxTimestamp()));
        same("earliest local", 0L, offsetFor(OffsetSpec.earliestLocal()));
    }

    private void administration() throws Exception {
        var resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        admin.createTopics(List.of(new NewTopic(topic, 2, (short) 1).configs(Map.of("retention.ms", "123456", "cleanup.policy", "compact,delete")))).all().get();
        fails(TopicExistsException.class, admin.createTopics(List.of(new NewTopic(topic, 1, (short) 1))).all());
        fails(InvalidReplicationFactorException.class, admin.createTopics(List.of(new NewTopic(topic + "-2", 1, (short) 3))).all());
        fails(InvalidConfigurationException.class, admin.createTopics(List.of(new NewTopic(topic + "-2", 1, (short) 1).configs(Map.of("retention.ms", "soon")))).all());
        check(admin.listTopics().names().get().contains(topic), "the new topic is not in the list");
        same("partitions", 2, admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions().size());
        same("retention.ms", "123456", config(resource, "retention.ms").value());
        same("source", ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG, config(resource, "retention.ms").source());
        same("default", ConfigEntry.ConfigSource.DEFAULT_CONFIG, config(resource, "segment.ms").source());
        admin.incrementalAlterConfigs(Map.of(resource, List.of(
            new AlterConfigOp(new ConfigEntry("retention.ms", "654321"), AlterConfigOp.OpType.SET),
            new AlterConfigOp(new ConfigEntry("cleanup.policy", "compact"), AlterConfigOp.OpType.SUBTRACT)))).all().get();
        until(60, "the new retention", () -> "654321".equals(config(resource, "retention.ms").value()));
        same("cleanup.policy", "delete", config(resource, "cleanup.policy").value());
        admin.incrementalAlterConfigs(Map.of(resource, List.of(new AlterConfigOp(new ConfigEntry("retention.ms", null), AlterConfigOp.OpType.DELETE)))).all().get();
        until(60, "the default retention", () -> "604800000".equals(config(resource, "retention.ms").value()));
        admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(4))).all().get();
        until(60, "4 partitions", () -> admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions().size() == 4);
        fails(InvalidPartitionsException.class, admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(3))).all());

        var partition = new TopicPartition(topic, 0);
        try (var producer = producer(Map.of())) {
            for (int i = 0; i < 10; i++) {
                producer.send(new ProducerRecord<>(topic, 0, "k", "" + i)).get(60, TimeUnit.SECONDS);
            }
        }
        same("low watermark", 4L, admin.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(4))).lowWatermarks().get(partition).get().lowWatermark());
        same("earliest after the deletion", 4L, offsetFor(OffsetSpec.earliest()));

        admin.alterConsumerGroupOffsets(topic, Map.of(partition, new OffsetAndMetadata(7))).all().get();
        check(admin.listGroups().all().get().stream().anyMatch(g -> g.groupId().equals(topic)), "the group is not in the list");
        same("group offset", 7L, admin.listConsumerGroupOffsets(topic).partitionsToOffsetAndMetadata().get().get(partition).offset());
        admin.deleteConsumerGroupOffsets(topic, Set.of(partition)).all().get();
        same("group offset after its deletion", null, admin.listConsumerGroupOffsets(topic).partitionsToOffsetAndMetadata().get().get(partition));
        admin.alterConsumerGroupOffsets(topic, Map.of(partition, new OffsetAndMetadata(7))).all().get();
        admin.deleteConsumerGroups(List.of(topic)).all().get();
        check(admin.listGroups().all().get().stream().noneMatch(g -> g.groupId().equals(topic)), "the deleted group is in the list");

        var cluster = admin.describeCluster();
        same("nodes", 1, cluster.nodes().get().size());
        check(cluster.clusterId().get().length() == 22, "the cluster id has not 22 characters");
        int node = cluster.nodes().get().iterator().next().id();
        check(admin.describeLogDirs(List.of(node)).allDescriptions().get().get(node).values().stream().anyMatch(d -> d.replicaInfos().containsKey(partition)), "no log directory has the partition");
        same("quorum leader", node, admin.describeMetadataQuorum().quorumInfo().get().leaderId());
        check(admin.describeFeatures().featureMetadata().get().finalizedFeatures().containsKey("metadata.version"), "metadata.version is not finalised");

        admin.deleteTopics(List.of(topic)).all().get();
        until(60, "the topic is gone", () -> !admin.listTopics().names().get().contains(topic));
        fails(UnknownTopicOrPartitionException.class, admin.deleteTopics(List.of(topic)).all());
    }

    private void largeMessage() throws Exception {
        create(1);
        String large = "x".repeat(900 * 1024);
        try (var producer = producer(Map.of("max.request.size", 4_000_000))) {
            producer.send(new ProducerRecord<>(topic, "k", large)).get(60, TimeUnit.SECONDS);
            fails(RecordTooLargeException.class, producer.send(new ProducerRecord<>(topic, "k", "x".repeat(1_200_000))));
            producer.send(new ProducerRecord<>(topic, "k", "small")).get(60, TimeUnit.SECONDS);
        }
        List<ConsumerRecord<String, String>> records = readAll(2);
        same("length", large.length(), records.get(0).value().length());
        same("the record after it", "small", records.get(1).value());
    }

    private void unknownTopic() throws Exception {
        fails(UnknownTopicOrPartitionException.class, admin.describeTopics(List.of(topic)).allTopicNames());
        try (var producer = producer(Map.of("max.block.ms", 5000))) {
            fails(InvalidTopicException.class, producer.send(new ProducerRecord<>("not/a/topic", "v")));
        }
        try (var consumer = consumer(Map.of("allow.auto.create.topics", false))) {
            check(consumer.partitionsFor(topic, Duration.ofSeconds(5)).isEmpty(), "partitions of a topic that does not exist");
        }
        check(!admin.listTopics().names().get().contains(topic), "the topic was created");
    }

    private void brokerRestart() throws Exception {
        create(3);
        try (var producer = producer(Map.of("enable.idempotence", true, "acks", "all", "linger.ms", 1, "delivery.timeout.ms", 60000,
                "request.timeout.ms", 5000, "reconnect.backoff.ms", 20, "reconnect.backoff.max.ms", 200))) {
            send(producer, 0, 500);
            String command = Objects.requireNonNull(System.getenv("KLAMM_RESTART_CMD"), "KLAMM_RESTART_CMD is not set");
            int code = new ProcessBuilder("bash", "-c", command).redirectErrorStream(true).redirectOutput(ProcessBuilder.Redirect.DISCARD).start().waitFor();
            same("exit code of the restart command", 0, code);
            send(producer, 500, 1000);
        }
        inOrderOnce(1000);
    }

    // --- what they share

    private KafkaProducer<String, String> producer(Map<String, Object> options) {
        Map<String, Object> all = new HashMap<>(Map.of("bootstrap.servers", bootstrap, "delivery.timeout.ms", 15000, "request.timeout.ms", 10000, "linger.ms", 0));
        all.putAll(options);
        return new KafkaProducer<>(all, new StringSerializer(), new StringSerializer());
    }

    private KafkaConsumer<String, String> consumer(Map<String, Object> options) {
        Map<String, Object> all = new HashMap<>(Map.of("bootstrap.servers", bootstrap, "auto.offset.reset", "earliest", "enable.auto.commit", false,
            "session.timeout.ms", 6000, "heartbeat.interval.ms", 200, "fetch.max.wait.ms", 100, "default.api.timeout.ms", 10000));
        all.putAll(options);
        if ("consumer".equals(options.get("group.protocol"))) {
            all.keySet().removeAll(List.of("session.timeout.ms", "heartbeat.interval.ms")); // The broker's are taken.
        }
        return new KafkaConsumer<>(all, new StringDeserializer(), new StringDeserializer());
    }

    private void create(int partitions) throws Exception {
        admin.createTopics(List.of(new NewTopic(topic, partitions, (short) 1))).all().get();
    }

    /** Sends the numbers as values, each to the partition number modulo 3, and waits until all are acknowledged. */
    private void send(KafkaProducer<String, String> producer, int from, int to) throws Exception {
        int partitions = producer.partitionsFor(topic).size();
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        for (int i = from; i < to; i++) {
            sent.add(producer.send(new ProducerRecord<>(topic, i % partitions, "k", "" + i)));
        }
        for (var future : sent) {
            future.get(60, TimeUnit.SECONDS);
        }
    }

    /** Polls until {@code count} records are there, and a little longer, so that more than these would be seen. */
    private List<ConsumerRecord<String, String>> poll(KafkaConsumer<String, String> consumer, int count) {
        List<ConsumerRecord<String, String>> records = new ArrayList<>();
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(20);
        while (records.size() < count) {
            check(System.nanoTime() < end, "only " + records.size() + " of " + count + " records came");
            consumer.poll(Duration.ofMillis(100)).forEach(records::add);
        }
        return records;
    }

    private List<ConsumerRecord<String, String>> readAll(int count) {
        try (var consumer = consumer(Map.of())) {
            var partitions = consumer.partitionsFor(topic).stream().map(p -> new TopicPartition(topic, p.partition())).toList();
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            long end = consumer.endOffsets(partitions).values().stream().mapToLong(Long::longValue).sum();
            same("end offsets", (long) count, end);
            return poll(consumer, count);
        }
    }

    /** The numbers below {@code count} are in the topic, once each and ascending within each of the 3 partitions. */
    private void inOrderOnce(int count) {
        Map<Integer, List<Integer>> read = new TreeMap<>();
        readAll(count).forEach(r -> read.computeIfAbsent(r.partition(), p -> new ArrayList<>()).add(Integer.valueOf(r.value())));
        for (int partition = 0; partition < 3; partition++) {
            int remainder = partition;
            same("partition " + partition, IntStream.range(0, count).filter(i -> i % 3 == remainder).boxed().toList(), read.get(partition));
        }
    }

    private long offsetFor(OffsetSpec spec) throws Exception {
        var partition = new TopicPartition(topic, 0);
        return admin.listOffsets(Map.of(partition, spec)).partitionResult(partition).get().offset();
    }

    private ConfigEntry config(ConfigResource resource, String name) throws Exception {
        return admin.describeConfigs(List.of(resource)).all().get().get(resource).get(name);
    }

    private boolean shared(List<Member> members, int each) {
        Set<TopicPartition> all = new HashSet<>();
        for (Member member : members) {
            if (member.problem != null) {
                throw new IllegalStateException(member.problem);
            }
            Set<TopicPartition> owned = member.owned;
            if (owned.size() != each || !owned.stream().allMatch(all::add)) {
                return false;
            }
        }
        return all.size() == 6;
    }

    /** A member of the group on a thread of its own. */
    private final class Member {
        volatile Set<TopicPartition> owned = Set.of();
        volatile Throwable problem;
        private volatile boolean leaving;
        private final String protocol;
        private final Thread thread = new Thread(this::loop);

        Member() {
            this("classic");
        }

        Member(String protocol) {
            this.protocol = protocol;
            thread.start();
        }

        private void loop() {
            try (var consumer = consumer(Map.of("group.id", topic, "group.protocol", protocol))) {
                consumer.subscribe(List.of(topic));
                while (!leaving) {
                    consumer.poll(Duration.ofMillis(50));
                    owned = Set.copyOf(consumer.assignment());
                }
            } catch (Throwable failure) {
                problem = failure;
            }
        }

        void close() throws InterruptedException {
            leaving = true;
            thread.join(10_000);
            check(!thread.isAlive(), "a member did not leave in time");
        }
    }

    /** Members share the records of a topic (KIP-932): each record goes to one of them, until it is acknowledged. */
    private void shareGroups() throws Exception {
        create(2);
        String group = topic + "-group";
        var earliest = new AlterConfigOp(new ConfigEntry("share.auto.offset.reset", "earliest"), AlterConfigOp.OpType.SET);
        var resource = new ConfigResource(ConfigResource.Type.GROUP, group);
        admin.incrementalAlterConfigs(Map.of(resource, List.of(earliest))).all().get(60, TimeUnit.SECONDS);
        try (var producer = producer(Map.of("linger.ms", 5))) {
            for (int i = 0; i < 200; i++) {
                producer.send(new ProducerRecord<>(topic, i % 2, "key-" + i, value(i)));
            }
        }
        // What a poll gave is acknowledged by the next one.
        Map<String, Integer> deliveries = new TreeMap<>();
        try (var one = shareConsumer(group, "implicit"); var other = shareConsumer(group, "implicit")) {
            until(60, "all records", () -> {
                for (var consumer : List.of(one, other)) {
                    for (var record : consumer.poll(Duration.ofMillis(100))) {
                        deliveries.merge(record.key(), 1, Integer::sum);
                    }
                }
                return deliveries.size() == 200;
            });
            check(deliveries.values().stream().allMatch(count -> count == 1), "a record was delivered twice: " + deliveries);
            committed(one);
            committed(other);
        }
        try (var producer = producer(Map.of("batch.size", 0))) {
            for (String key : List.of("accept", "release", "reject")) {
                producer.send(new ProducerRecord<>(topic, 0, key, value(1))).get(60, TimeUnit.SECONDS);
            }
        }
        try (var consumer = shareConsumer(group, "explicit")) {
            Map<String, Integer> counts = new TreeMap<>();
            boolean[] renewed = {false}, accepted = {false};
            until(60, "the released record to come again", () -> {
                for (var record : consumer.poll(Duration.ofMillis(100))) {
                    counts.put(record.key(), (int) record.deliveryCount().orElse((short) -1));
                    boolean again = record.deliveryCount().orElse((short) 0) > 1;
                    // A record whose lock was renewed is what the next poll gives.
                    var then = renewed[0] ? AcknowledgeType.ACCEPT : AcknowledgeType.RENEW;
                    accepted[0] |= again && renewed[0];
                    renewed[0] |= again;
                    consumer.acknowledge(record, switch (record.key()) {
                        case "release" -> again ? then : AcknowledgeType.RELEASE;
                        case "reject" -> AcknowledgeType.REJECT;
                        default -> AcknowledgeType.ACCEPT;
                    });
                }
                committed(consumer);
                return counts.size() == 3 && accepted[0];
            });
            same("delivery counts", Map.of("accept", 1, "release", 2, "reject", 1), counts);
            same("the lock", Optional.of(30_000), consumer.acquisitionLockTimeoutMs());
        }
        try (var consumer = shareConsumer(group, "implicit")) {
            long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(2);
            while (System.nanoTime() < end) {
                check(consumer.poll(Duration.ofMillis(200)).isEmpty(), "everything was acknowledged");
            }
        }
    }

    private KafkaShareConsumer<String, String> shareConsumer(String group, String mode) {
        var consumer = new KafkaShareConsumer<>(
            Map.of("bootstrap.servers", bootstrap, "group.id", group, "share.acknowledgement.mode", mode),
            new StringDeserializer(), new StringDeserializer());
        consumer.subscribe(List.of(topic));
        return consumer;
    }

    private static void committed(KafkaShareConsumer<String, String> consumer) {
        consumer.commitSync(Duration.ofSeconds(10)).forEach((partition, problem) -> check(problem.isEmpty(), partition + ": " + problem));
    }

    private interface Condition {
        boolean holds() throws Exception;
    }

    private static void until(int seconds, String what, Condition condition) throws Exception {
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(seconds);
        while (!condition.holds()) {
            check(System.nanoTime() < end, "waited too long for " + what);
            Thread.sleep(20);
        }
    }

    private static void fails(Class<? extends Throwable> expected, Future<?> future) throws Exception {
        try {
            future.get(60, TimeUnit.SECONDS);
        } catch (ExecutionException e) {
            check(expected.isInstance(e.getCause()), "expected " + expected.getSimpleName() + " but got " + e.getCause());
            return;
        }
        throw new IllegalStateException("expected " + expected.getSimpleName() + " but it succeeded");
    }

    private static String headers(ConsumerRecord<String, String> record) {
        return Stream.of(record.headers().toArray()).map(h -> h.key() + "=" + (h.value() == null ? "null" : new String(h.value()))).collect(Collectors.joining(" "));
    }

    private static byte[] bytes(String text) {
        return text.getBytes();
    }

    private static String value(int number) {
        return "a value that repeats, repeats, repeats " + number;
    }

    private static void same(String what, Object expected, Object got) {
        check(Objects.equals(expected, got), what + ": expected " + shorten(expected) + " but got " + shorten(got));
    }

    private static String shorten(Object value) {
        String text = String.valueOf(value);
        return text.length() > 200 ? text.substring(0, 200) + "…" : text;
    }

    private static void check(boolean condition, String message) {
        if (!condition) {
            throw new IllegalStateException(message);
        }
    }
}
