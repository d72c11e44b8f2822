// The common scenarios, played with kafka-go (segmentio): client SCENARIO HOST:PORT.
// The library has no idempotent producer and no request to delete records.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
)

var (
	scenario, bootstrap, topic string
	ctx                        = context.Background()
	client                     *kafka.Client
)

type problem string

func main() {
	scenario, bootstrap = os.Args[1], os.Args[2]
	topic = fmt.Sprintf("kafka-go-%s-%d", scenario, time.Now().UnixNano())
	defer func() {
		if caught := recover(); caught != nil {
			fmt.Fprintf(os.Stderr, "kafka-go: %s: %v\n", scenario, caught)
			if _, expected := caught.(problem); !expected {
				debug.PrintStack()
			}
			os.Exit(1)
		}
	}()
	start()
	map[string]func(){
		"produce-consume": produceConsume, "group-rebalance": groupRebalance,
		"commit-resume": commitResume, "offsets-by-time": offsetsByTime, "admin": administration,
		"large-message": largeMessage, "unknown-topic": unknownTopic, "broker-restart": brokerRestart,
	}[scenario]()
}

func check(holds bool, format string, arguments ...any) {
	if !holds {
		panic(problem(fmt.Sprintf(format, arguments...)))
	}
}

func same[T comparable](what string, expected, got T) {
	check(expected == got, "%s: expected %.200v but got %.200v", what, expected, got)
}

func ok(err error) {
	check(err == nil, "%v", err)
}

func must[T any](value T, err error) T {
	ok(err)
	return value
}

func fails(expected, err error) {
	check(errors.Is(err, expected), "expected %v but got %v", expected, err)
}

func until(seconds int, what string, condition func() bool) {
	for end := time.Now().Add(time.Duration(seconds) * time.Second); !condition(); time.Sleep(20 * time.Millisecond) {
		check(time.Now().Before(end), "waited too long for %s", what)
	}
}

func value(number int) []byte {
	return []byte(fmt.Sprintf("a value that repeats, repeats, repeats %d", number))
}

func start() {
	var cancel context.CancelFunc
	ctx, cancel = context.WithTimeout(ctx, 90*time.Second)
	_ = cancel
	client = &kafka.Client{Addr: kafka.TCP(bootstrap), Timeout: 10 * time.Second}
}

func create(name string, partitions, replicas int, configs ...kafka.ConfigEntry) error {
	return must(client.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{
		{Topic: name, NumPartitions: partitions, ReplicationFactor: replicas, ConfigEntries: configs},
	}})).Errors[name]
}

// The partition is the key, a number.
func toPartition(message kafka.Message, partitions ...int) int {
	partition, err := strconv.Atoi(string(message.Key))
	if err != nil {
		return partitions[0]
	}
	return partitions[partition%len(partitions)]
}

func writer(options ...func(*kafka.Writer)) *kafka.Writer {
	all := &kafka.Writer{Addr: kafka.TCP(bootstrap), Topic: topic, Balancer: kafka.BalancerFunc(toPartition), RequiredAcks: kafka.RequireAll, BatchTimeout: 5 * time.Millisecond}
	for _, option := range options {
		option(all)
	}
	return all
}

// Each number goes to the partition number modulo partitions; returns when all are acknowledged.
func sendNumbers(sender *kafka.Writer, from, to, partitions int) {
	var messages []kafka.Message
	for number := from; number < to; number++ {
		messages = append(messages, kafka.Message{Key: []byte(strconv.Itoa(number % partitions)), Value: []byte(strconv.Itoa(number))})
	}
	ok(sender.WriteMessages(ctx, messages...))
}

func reader(options ...func(*kafka.ReaderConfig)) *kafka.Reader {
	all := kafka.ReaderConfig{Brokers: []string{bootstrap}, Topic: topic, MaxWait: 100 * time.Millisecond, MaxBytes: 10_000_000, StartOffset: kafka.FirstOffset,
		SessionTimeout: 6 * time.Second, HeartbeatInterval: 200 * time.Millisecond, RebalanceTimeout: 6 * time.Second, JoinGroupBackoff: 100 * time.Millisecond}
	for _, option := range options {
		option(&all)
	}
	return kafka.NewReader(all)
}

func fetch(from *kafka.Reader, count int) []kafka.Message {
	limited, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	var messages []kafka.Message
	for len(messages) < count {
		message, err := from.FetchMessage(limited)
		check(err == nil, "only %d of %d records came: %v", len(messages), count, err)
		messages = append(messages, message)
	}
	return messages
}

func readPartition(partition, count int) []kafka.Message {
	same("end offset", int64(count), listed(partition, kafka.LastOffset))
	from := reader(func(c *kafka.ReaderConfig) { c.Partition = partition })
	defer from.Close()
	return fetch(from, count)
}

func inOrderOnce(count int) {
	for partition := range 3 {
		var expected, read []int
		for number := partition; number < count; number += 3 {
			expected = append(expected, number)
		}
		for _, message := range readPartition(partition, len(expected)) {
			read = append(read, must(strconv.Atoi(string(message.Value))))
		}
		check(slices.Equal(expected, read), "partition %d: got %.200v", partition, read)
	}
}

// The offset for a timestamp, or for one of the two special ones.
func listed(partition int, timestamp int64) int64 {
	answer := must(client.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{topic: {{Partition: partition, Timestamp: timestamp}}}}))
	offsets := answer.Topics[topic][0]
	ok(offsets.Error)
	switch timestamp {
	case kafka.FirstOffset:
		return offsets.FirstOffset
	case kafka.LastOffset:
		return offsets.LastOffset
	}
	for offset := range offsets.Offsets {
		return offset
	}
	panic(problem("no offset in the answer"))
}

func produceConsume() {
	ok(create(topic, 1, 1))
	base := time.Now().UnixMilli() - 100_000
	codecs := []kafka.Compression{0, kafka.Gzip, kafka.Snappy, kafka.Lz4, kafka.Zstd}
	headers := []kafka.Header{{Key: "h", Value: []byte("1")}, {Key: "h", Value: []byte("2")}, {Key: "empty", Value: []byte{}}, {Key: "absent"}}
	for number, codec := range codecs {
		sender := writer(func(w *kafka.Writer) { w.Compression = codec; w.BatchTimeout = 20 * time.Millisecond })
		var messages []kafka.Message
		for i := range 50 {
			message := kafka.Message{Key: []byte(fmt.Sprintf("%d-%d", number, i)), Value: value(i), Time: time.UnixMilli(base + int64(i)), Headers: headers}
			if i == 7 {
				message.Key = nil
			}
			if i == 9 {
				message.Value = nil
			}
			messages = append(messages, message)
		}
		ok(sender.WriteMessages(ctx, messages...))
		ok(sender.Close())
	}
	for offset, message := range readPartition(0, 250) {
		number, i := offset/50, offset%50
		same("offset", int64(offset), message.Offset)
		key, expected := fmt.Sprintf("%d-%d", number, i), string(value(i))
		if i == 7 {
			key = ""
		}
		if i == 9 {
			expected = ""
		}
		same("key", key, string(message.Key))
		same("value", expected, string(message.Value))
		same("timestamp", base+int64(i), message.Time.UnixMilli())
		same("headers", len(headers), len(message.Headers))
		for at, header := range message.Headers {
			same("header", headers[at].Key+"="+string(headers[at].Value), header.Key+"="+string(header.Value))
		}
	}
}

type member struct {
	group *kafka.ConsumerGroup
	lock  sync.Mutex
	owned []int
}

func join() *member {
	m := &member{group: must(kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{ID: topic, Brokers: []string{bootstrap}, Topics: []string{topic},
		SessionTimeout: 6 * time.Second, HeartbeatInterval: 200 * time.Millisecond, RebalanceTimeout: 6 * time.Second, JoinGroupBackoff: 100 * time.Millisecond}))}
	set := func(partitions []int) {
		m.lock.Lock()
		defer m.lock.Unlock()
		m.owned = partitions
	}
	go func() {
		for {
			generation, err := m.group.Next(ctx)
			if errors.Is(err, kafka.ErrGroupClosed) || ctx.Err() != nil {
				return
			}
			if err != nil {
				continue // such as a rebalance while joining: the library joins again
			}
			var partitions []int
			for _, assignment := range generation.Assignments[topic] {
				partitions = append(partitions, assignment.ID)
			}
			set(partitions)
			generation.Start(func(ended context.Context) {
				<-ended.Done()
				set(nil)
			})
		}
	}()
	return m
}

func shared(members []*member, each int) bool {
	all := map[int]bool{}
	for _, m := range members {
		m.lock.Lock()
		defer m.lock.Unlock()
		if len(m.owned) != each {
			return false
		}
		for _, partition := range m.owned {
			all[partition] = true
		}
	}
	return len(all) == 6 && len(members)*each == 6
}

func groupRebalance() {
	ok(create(topic, 6, 1))
	members := []*member{join(), join(), join()}
	until(60, "2 partitions for each of 3 members", func() bool { return shared(members, 2) })
	ok(members[1].group.Close())
	members = []*member{members[0], members[2]}
	until(60, "3 partitions for each of 2 members", func() bool { return shared(members, 3) })
	group := must(client.DescribeGroups(ctx, &kafka.DescribeGroupsRequest{GroupIDs: []string{topic}})).Groups[0]
	same("state", "Stable", group.GroupState)
	same("members", 2, len(group.Members))
	for _, m := range members {
		ok(m.group.Close())
	}
}

func groupOffset() int64 {
	answer := must(client.OffsetFetch(ctx, &kafka.OffsetFetchRequest{GroupID: topic, Topics: map[string][]int{topic: {0}}}))
	ok(answer.Error)
	ok(answer.Topics[topic][0].Error)
	return answer.Topics[topic][0].CommittedOffset
}

func commitResume() {
	ok(create(topic, 1, 1))
	sender := writer()
	defer sender.Close()
	sendNumbers(sender, 0, 100, 1)
	inGroup := func(c *kafka.ReaderConfig) { c.GroupID = topic }
	first := reader(inGroup)
	ok(first.CommitMessages(ctx, fetch(first, 40)...))
	ok(first.Close())
	second := reader(inGroup)
	same("first record after the commit", 40, fetch(second, 60)[0].Offset)
	ok(second.Close())
	same("committed", 40, groupOffset())
}

func offsetsByTime() {
	ok(create(topic, 1, 1))
	base := time.Now().UnixMilli() - 1_000_000
	sender := writer()
	defer sender.Close()
	for i := range 20 {
		ok(sender.WriteMessages(ctx, kafka.Message{Value: value(i), Time: time.UnixMilli(base + int64(i)*1000)}))
	}
	same("exact", 5, listed(0, base+5000))
	same("between", 6, listed(0, base+5001))
	same("before all", 0, listed(0, 1))
	same("after all", -1, listed(0, base+10_000_000))
	same("earliest", 0, listed(0, kafka.FirstOffset))
	same("latest", 20, listed(0, kafka.LastOffset))
	from := reader()
	defer from.Close()
	ok(from.SetOffsetAt(ctx, time.UnixMilli(base+5001)))
	same("first record read after a time", 6, fetch(from, 1)[0].Offset)
}

func administration() {
	ok(create(topic, 2, 1, kafka.ConfigEntry{ConfigName: "retention.ms", ConfigValue: "123456"}))
	fails(kafka.TopicAlreadyExists, create(topic, 1, 1))
	fails(kafka.InvalidReplicationFactor, create(topic+"-2", 1, 3))
	describe := func() kafka.Topic {
		return must(client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{topic}})).Topics[0]
	}
	until(60, "2 partitions", func() bool { return len(describe().Partitions) == 2 })
	config := func(name string) string {
		answer := must(client.DescribeConfigs(ctx, &kafka.DescribeConfigsRequest{Resources: []kafka.DescribeConfigRequestResource{{ResourceType: kafka.ResourceTypeTopic, ResourceName: topic}}})).Resources[0]
		ok(answer.Error)
		for _, entry := range answer.ConfigEntries {
			if entry.ConfigName == name {
				return entry.ConfigValue
			}
		}
		panic(problem("no config " + name))
	}
	same("retention.ms", "123456", config("retention.ms"))
	alter := func(operation kafka.ConfigOperation, value string) {
		answer := must(client.IncrementalAlterConfigs(ctx, &kafka.IncrementalAlterConfigsRequest{Resources: []kafka.IncrementalAlterConfigsRequestResource{{
			ResourceType: kafka.ResourceTypeTopic, ResourceName: topic,
			Configs: []kafka.IncrementalAlterConfigsRequestConfig{{Name: "retention.ms", Value: value, ConfigOperation: operation}},
		}}}))
		ok(answer.Resources[0].Error)
	}
	alter(kafka.ConfigOperationSet, "654321")
	until(60, "the new retention", func() bool { return config("retention.ms") == "654321" })
	alter(kafka.ConfigOperationDelete, "")
	until(60, "the default retention", func() bool { return config("retention.ms") == "604800000" })
	grow := func(count int32) error {
		return must(client.CreatePartitions(ctx, &kafka.CreatePartitionsRequest{Topics: []kafka.TopicPartitionsConfig{{Name: topic, Count: count}}})).Errors[topic]
	}
	ok(grow(4))
	until(60, "4 partitions (the library asks every 6 seconds)", func() bool { return len(describe().Partitions) == 4 })
	fails(kafka.InvalidPartitionNumber, grow(3))

	commit := func() {
		answer := must(client.OffsetCommit(ctx, &kafka.OffsetCommitRequest{GroupID: topic, GenerationID: -1, Topics: map[string][]kafka.OffsetCommit{topic: {{Partition: 0, Offset: 7}}}}))
		ok(answer.Topics[topic][0].Error)
	}
	listedGroup := func() bool {
		return slices.ContainsFunc(must(client.ListGroups(ctx, &kafka.ListGroupsRequest{})).Groups, func(g kafka.ListGroupsResponseGroup) bool { return g.GroupID == topic })
	}
	until(60, "the coordinator", func() bool {
		_, err := client.FindCoordinator(ctx, &kafka.FindCoordinatorRequest{Key: topic, KeyType: kafka.CoordinatorKeyTypeConsumer})
		return err == nil
	})
	commit()
	check(listedGroup(), "the group is not in the list")
	same("group offset", 7, groupOffset())
	ok(must(client.OffsetDelete(ctx, &kafka.OffsetDeleteRequest{GroupID: topic, Topics: map[string][]int{topic: {0}}})).Error)
	same("group offset after its deletion", -1, groupOffset())
	commit()
	ok(must(client.DeleteGroups(ctx, &kafka.DeleteGroupsRequest{GroupIDs: []string{topic}})).Errors[topic])
	check(!listedGroup(), "the deleted group is in the list")

	cluster := must(client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{}}))
	same("brokers", 1, len(cluster.Brokers))
	same("length of the cluster id", 22, len(cluster.ClusterID))
	remove := func() error {
		return must(client.DeleteTopics(ctx, &kafka.DeleteTopicsRequest{Topics: []string{topic}})).Errors[topic]
	}
	ok(remove())
	fails(kafka.UnknownTopicOrPartition, remove())
}

func largeMessage() {
	ok(create(topic, 1, 1))
	sender := writer(func(w *kafka.Writer) { w.BatchBytes = 4_000_000; w.MaxAttempts = 1 })
	defer sender.Close()
	send := func(size int) error { return sender.WriteMessages(ctx, kafka.Message{Value: make([]byte, size)}) }
	ok(send(921_600))
	var each kafka.WriteErrors
	check(errors.As(send(1_200_000), &each), "a record of 1,200,000 bytes was accepted")
	fails(kafka.MessageSizeTooLarge, each[0])
	ok(send(5))
	messages := readPartition(0, 2)
	same("length", 921_600, len(messages[0].Value))
	same("length of the record after it", 5, len(messages[1].Value))
}

func unknownTopic() {
	sender := writer(func(w *kafka.Writer) { w.MaxAttempts = 1 })
	defer sender.Close()
	fails(kafka.UnknownTopicOrPartition, sender.WriteMessages(ctx, kafka.Message{Value: value(1)}))
	fails(kafka.InvalidTopic, create("not/a/topic", 1, 1))
	for _, known := range must(client.Metadata(ctx, &kafka.MetadataRequest{})).Topics {
		check(known.Name != topic, "the topic was created")
	}
}

func brokerRestart() {
	ok(create(topic, 3, 1))
	sender := writer(func(w *kafka.Writer) {
		w.MaxAttempts = 300
		w.WriteBackoffMin = 20 * time.Millisecond
		w.WriteBackoffMax = 100 * time.Millisecond
	})
	defer sender.Close()
	sendNumbers(sender, 0, 500, 3)
	ok(exec.Command("bash", "-c", os.Getenv("KLAMM_RESTART_CMD")).Run())
	sendNumbers(sender, 500, 1000, 3)
	inOrderOnce(1000)
}
