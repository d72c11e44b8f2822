import java.time.Duration;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Random;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Copies {@code input} to {@code output} in transactions until it is killed: {@code Copier BOOTSTRAP GROUP PROTOCOL TRANSACTIONAL_ID}. It
 * does as Kafka's TransactionalMessageCopier does, which has no option for the group's protocol, and aborts some of its transactions.
 */
public final class Copier {
    private Copier() {
    }

    public static void main(String[] arguments) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", arguments[0]);
        properties.put("group.id", arguments[1]);
        properties.put("group.protocol", arguments[2]);
        properties.put("isolation.level", "read_committed");
        properties.put("enable.auto.commit", "false");
        properties.put("auto.offset.reset", "earliest");
        properties.put("max.poll.records", "50");
        properties.put("key.deserializer", StringDeserializer.class.getName());
        properties.put("value.deserializer", StringDeserializer.class.getName());
        Properties output = new Properties();
        output.put("bootstrap.servers", arguments[0]);
        output.put("transactional.id", arguments[3]);
        output.put("transaction.timeout.ms", "10000");
        output.put("batch.size", "512");
        output.put("key.serializer", StringSerializer.class.getName());
        output.put("value.serializer", StringSerializer.class.getName());
        Random random = new Random();
        try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(properties);
                KafkaProducer<String, String> producer = new KafkaProducer<>(output)) {
            producer.initTransactions();
            consumer.subscribe(List.of("input"));
            System.out.println("copying");
            while (true) {
                ConsumerRecords<String, String> records = consumer.poll(Duration.ofMillis(200));
                if (records.isEmpty()) {
                    continue;
                }
                try {
                    producer.beginTransaction();
                    for (ConsumerRecord<String, String> record : records) {
                        producer.send(new ProducerRecord<>("output", record.partition(), record.key(), record.value()));
                    }
                    producer.sendOffsetsToTransaction(new HashMap<>(records.nextOffsets()), consumer.groupMetadata());
                    if (random.nextInt(3) == 0) {
                        producer.abortTransaction();
                        goBack(consumer, records.partitions());
                        System.out.println("aborted");
                    } else {
                        producer.commitTransaction();
                        System.out.println("copied " + records.count());
                    }
                } catch (ProducerFencedException fenced) {
                    throw fenced;
                } catch (CommitFailedException moved) {
                    // The group has changed: others copy these partitions.
                    producer.abortTransaction();
                    goBack(consumer, consumer.assignment());
                } catch (KafkaException failure) {
                    System.out.println("failed: " + failure);
                    producer.abortTransaction();
                    goBack(consumer, consumer.assignment());
                }
            }
        }
    }

    private static void goBack(KafkaConsumer<String, String> consumer, Collection<TopicPartition> partitions) {
        Map<TopicPartition, OffsetAndMetadata> committed = consumer.committed(consumer.assignment());
        for (TopicPartition partition : partitions) {
            OffsetAndMetadata offset = committed.get(partition);
            if (offset != null) {
                consumer.seek(partition, offset.offset());
            } else if (committed.containsKey(partition)) {
                consumer.seekToBeginning(List.of(partition));
            }
        }
    }
}
