// The common scenarios, played with sarama: client SCENARIO HOST:PORT.
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

	"github.com/IBM/sarama"
)

var (
	scenario, bootstrap, topic string
	admin                      sarama.ClusterAdmin
)

type problem string

func main() {
	scenario, bootstrap = os.Args[1], os.Args[2]
	topic = fmt.Sprintf("sarama-%s-%d", scenario, time.Now().UnixNano())
	defer func() {
		if caught := recover(); caught != nil {
			fmt.Fprintf(os.Stderr, "sarama: %s: %v\n", scenario, caught)
			if _, expected := caught.(problem); !expected {
				debug.PrintStack()
			}
			os.Exit(1)
		}
	}()
	start()
	map[string]func(){
		"produce-consume": produceConsume, "idempotent": idempotent, "group-rebalance": groupRebalance,
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
	admin = must(sarama.NewClusterAdmin([]string{bootstrap}, config()))
}

func config(options ...func(*sarama.Config)) *sarama.Config {
	all := sarama.NewConfig()
	all.Version = sarama.MaxVersion
	all.Producer.Return.Successes = true
	all.Producer.Partitioner = sarama.NewManualPartitioner
	all.Producer.RequiredAcks = sarama.WaitForAll
	all.Consumer.MaxWaitTime = 100 * time.Millisecond
	all.Consumer.Offsets.Initial = sarama.OffsetOldest
	all.Consumer.Offsets.AutoCommit.Enable = false
	all.Consumer.Group.Session.Timeout = 6 * time.Second
	all.Consumer.Group.Heartbeat.Interval = 200 * time.Millisecond
	for _, option := range options {
		option(all)
	}
	return all
}

func producer(options ...func(*sarama.Config)) sarama.SyncProducer {
	return must(sarama.NewSyncProducer([]string{bootstrap}, config(options...)))
}

func create(partitions int32) {
	ok(admin.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: partitions, ReplicationFactor: 1}, false))
}

// Each number goes to the partition number modulo partitions; returns when all are acknowledged.
func sendNumbers(sender sarama.SyncProducer, from, to, partitions int) {
	var messages []*sarama.ProducerMessage
	for number := from; number < to; number++ {
		messages = append(messages, &sarama.ProducerMessage{Topic: topic, Partition: int32(number % partitions), Key: sarama.StringEncoder("k"), Value: sarama.StringEncoder(strconv.Itoa(number))})
	}
	ok(sender.SendMessages(messages))
}

func readPartition(partition int32, count int) []*sarama.ConsumerMessage {
	consumer := must(sarama.NewConsumer([]string{bootstrap}, config()))
	defer consumer.Close()
	reader := must(consumer.ConsumePartition(topic, partition, sarama.OffsetOldest))
	defer reader.Close()
	var messages []*sarama.ConsumerMessage
	late := time.After(20 * time.Second)
	for len(messages) < count {
		select {
		case message := <-reader.Messages():
			messages = append(messages, message)
		case <-late:
			check(false, "only %d of %d records came", len(messages), count)
		}
	}
	same("end offset", int64(len(messages)), reader.HighWaterMarkOffset())
	return messages
}

func inOrderOnce(count int) {
	for partition := range 3 {
		var expected, read []int
		for number := partition; number < count; number += 3 {
			expected = append(expected, number)
		}
		for _, message := range readPartition(int32(partition), len(expected)) {
			read = append(read, must(strconv.Atoi(string(message.Value))))
		}
		check(slices.Equal(expected, read), "partition %d: got %.200v", partition, read)
	}
}

func produceConsume() {
	create(1)
	base := time.Now().UnixMilli() - 100_000
	codecs := []sarama.CompressionCodec{sarama.CompressionNone, sarama.CompressionGZIP, sarama.CompressionSnappy, sarama.CompressionLZ4, sarama.CompressionZSTD}
	headers := []sarama.RecordHeader{{Key: []byte("h"), Value: []byte("1")}, {Key: []byte("h"), Value: []byte("2")}, {Key: []byte("empty"), Value: []byte{}}, {Key: []byte("absent")}}
	for number, codec := range codecs {
		sender := producer(func(c *sarama.Config) { c.Producer.Compression = codec })
		var messages []*sarama.ProducerMessage
		for i := range 50 {
			message := &sarama.ProducerMessage{Topic: topic, Key: sarama.StringEncoder(fmt.Sprintf("%d-%d", number, i)), Value: sarama.ByteEncoder(value(i)), Timestamp: time.UnixMilli(base + int64(i)), Headers: headers}
			if i == 7 {
				message.Key = nil
			}
			if i == 9 {
				message.Value = nil
			}
			messages = append(messages, message)
		}
		ok(sender.SendMessages(messages))
		for i, message := range messages {
			same("offset", int64(number*50+i), message.Offset)
		}
		ok(sender.Close())
	}
	for offset, message := range readPartition(0, 250) {
		number, i := offset/50, offset%50
		same("offset", int64(offset), message.Offset)
		same("no key", i == 7, message.Key == nil)
		if i != 7 {
			same("key", fmt.Sprintf("%d-%d", number, i), string(message.Key))
		}
		same("no value", i == 9, message.Value == nil)
		if i != 9 {
			same("value", string(value(i)), string(message.Value))
		}
		same("timestamp", base+int64(i), message.Timestamp.UnixMilli())
		same("headers", len(headers), len(message.Headers))
		for at, header := range message.Headers {
			same("header", string(headers[at].Key)+"="+string(headers[at].Value), string(header.Key)+"="+string(header.Value))
		}
	}
}

func idempotent() {
	create(3)
	sender := producer(func(c *sarama.Config) {
		c.Producer.Idempotent = true
		c.Net.MaxOpenRequests = 1
		c.Producer.Flush.MaxMessages = 20
	})
	defer sender.Close()
	sendNumbers(sender, 0, 1500, 3)
	inOrderOnce(1500)
}

// A member of a group; it may be told to commit after a number of records.
type member struct {
	group    sarama.ConsumerGroup
	cancel   context.CancelFunc
	done     chan struct{}
	lock     sync.Mutex
	owned    []int32
	messages []*sarama.ConsumerMessage
}

func join(group string) *member {
	ctx, cancel := context.WithCancel(context.Background())
	m := &member{group: must(sarama.NewConsumerGroup([]string{bootstrap}, group, config())), cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(m.done)
		for ctx.Err() == nil {
			if err := m.group.Consume(ctx, []string{topic}, m); err != nil {
				return
			}
		}
	}()
	return m
}

func (m *member) Setup(session sarama.ConsumerGroupSession) error {
	m.lock.Lock()
	defer m.lock.Unlock()
	m.owned = session.Claims()[topic]
	return nil
}

func (m *member) Cleanup(sarama.ConsumerGroupSession) error {
	m.lock.Lock()
	defer m.lock.Unlock()
	m.owned = nil
	return nil
}

func (m *member) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for message := range claim.Messages() {
		m.lock.Lock()
		m.messages = append(m.messages, message)
		m.lock.Unlock()
		if message.Offset == 39 {
			session.MarkMessage(message, "forty")
			session.Commit()
			break
		}
	}
	<-session.Context().Done()
	return nil
}

func (m *member) read() []*sarama.ConsumerMessage {
	m.lock.Lock()
	defer m.lock.Unlock()
	return slices.Clone(m.messages)
}

func (m *member) leave() {
	m.cancel()
	select {
	case <-m.done:
	case <-time.After(10 * time.Second):
		check(false, "a member did not leave in time")
	}
	ok(m.group.Close())
}

func shared(members []*member, each int) bool {
	all := map[int32]bool{}
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
	create(6)
	members := []*member{join(topic), join(topic), join(topic)}
	until(60, "2 partitions for each of 3 members", func() bool { return shared(members, 2) })
	members[1].leave()
	members = []*member{members[0], members[2]}
	until(60, "3 partitions for each of 2 members", func() bool { return shared(members, 3) })
	group := must(admin.DescribeConsumerGroups([]string{topic}))[0]
	same("state", "Stable", group.State)
	same("members", 2, len(group.Members))
	for _, m := range members {
		m.leave()
	}
}

func commitResume() {
	create(1)
	sender := producer()
	defer sender.Close()
	sendNumbers(sender, 0, 100, 1)
	committed := func() int64 {
		offsets := must(admin.ListConsumerGroupOffsets(topic, map[string][]int32{topic: {0}}))
		return offsets.GetBlock(topic, 0).Offset
	}
	first := join(topic)
	until(60, "the commit", func() bool { return committed() == 40 })
	first.leave()
	second := join(topic)
	until(60, "the other 60 records", func() bool { return len(second.read()) >= 60 })
	same("first record after the commit", 40, second.read()[0].Offset)
	second.leave()
	same("metadata", "forty", must(admin.ListConsumerGroupOffsets(topic, nil)).GetBlock(topic, 0).Metadata)
}

func listed(timestamp int64) int64 {
	result := must(admin.ListOffsets(map[string]map[int32]int64{topic: {0: timestamp}}, nil))[topic][0]
	check(errors.Is(result.Err, sarama.ErrNoError), "%v", result.Err)
	return result.Offset
}

func offsetsByTime() {
	create(1)
	base := time.Now().UnixMilli() - 1_000_000
	sender := producer()
	defer sender.Close()
	for i := range 20 {
		_, _, err := sender.SendMessage(&sarama.ProducerMessage{Topic: topic, Value: sarama.ByteEncoder(value(i)), Timestamp: time.UnixMilli(base + int64(i)*1000)})
		ok(err)
	}
	same("exact", 5, listed(base+5000))
	same("between", 6, listed(base+5001))
	same("before all", 0, listed(0))
	same("after all", -1, listed(base+10_000_000))
	same("earliest", 0, listed(sarama.OffsetOldest))
	same("latest", 20, listed(sarama.OffsetNewest))
}

func administration() {
	retention, altered := "123456", "654321"
	ok(admin.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: 2, ReplicationFactor: 1, ConfigEntries: map[string]*string{"retention.ms": &retention}}, false))
	fails(sarama.ErrTopicAlreadyExists, admin.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 1}, false))
	fails(sarama.ErrInvalidReplicationFactor, admin.CreateTopic(topic+"-2", &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 3}, false))
	detail, found := must(admin.ListTopics())[topic]
	check(found, "the new topic is not in the list")
	same("partitions", 2, detail.NumPartitions)
	resource := sarama.ConfigResource{Type: sarama.TopicResource, Name: topic}
	value := func(name string) string {
		for _, entry := range must(admin.DescribeConfig(resource)) {
			if entry.Name == name {
				return entry.Value
			}
		}
		panic(problem("no config " + name))
	}
	same("retention.ms", retention, value("retention.ms"))
	ok(admin.IncrementalAlterConfig(sarama.TopicResource, topic, map[string]sarama.IncrementalAlterConfigsEntry{"retention.ms": {Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &altered}}, false))
	until(60, "the new retention", func() bool { return value("retention.ms") == altered })
	segment := "7200000"
	ok(admin.AlterConfig(sarama.TopicResource, topic, map[string]*string{"segment.ms": &segment}, false))
	until(60, "the configs that replace all", func() bool { return value("segment.ms") == segment && value("retention.ms") == "604800000" })
	ok(admin.CreatePartitions(topic, 4, nil, false))
	until(60, "4 partitions", func() bool { return len(must(admin.DescribeTopics([]string{topic}))[0].Partitions) == 4 })
	fails(sarama.ErrInvalidPartitions, admin.CreatePartitions(topic, 3, nil, false))

	sender := producer()
	defer sender.Close()
	sendNumbers(sender, 0, 10, 1)
	ok(admin.DeleteRecords(topic, map[int32]int64{0: 4}))
	same("earliest after the deletion", 4, listed(sarama.OffsetOldest))

	commit := func() {
		answer := must(admin.AlterConsumerGroupOffsets(topic, map[string]map[int32]sarama.OffsetAndMetadata{topic: {0: {Offset: 7, LeaderEpoch: -1}}}, nil))
		same("error of the commit", sarama.ErrNoError, answer.Errors[topic][0])
	}
	offset := func() int64 {
		return must(admin.ListConsumerGroupOffsets(topic, map[string][]int32{topic: {0}})).GetBlock(topic, 0).Offset
	}
	listedGroup := func() bool { _, found := must(admin.ListConsumerGroups())[topic]; return found }
	commit()
	check(listedGroup(), "the group is not in the list")
	same("group offset", 7, offset())
	ok(admin.DeleteConsumerGroupOffset(topic, topic, 0))
	same("group offset after its deletion", -1, offset())
	commit()
	ok(admin.DeleteConsumerGroup(topic))
	check(!listedGroup(), "the deleted group is in the list")

	brokers, controller, err := admin.DescribeCluster()
	ok(err)
	same("brokers", 1, len(brokers))
	same("controller", brokers[0].ID(), controller)
	same("brokers with log directories", 1, len(must(admin.DescribeLogDirs([]int32{controller}))))
	ok(admin.DeleteTopic(topic))
	until(60, "the topic is gone", func() bool { _, found := must(admin.ListTopics())[topic]; return !found })
	fails(sarama.ErrUnknownTopicOrPartition, admin.DeleteTopic(topic))
}

func largeMessage() {
	create(1)
	sender := producer(func(c *sarama.Config) { c.Producer.MaxMessageBytes = 4_000_000 })
	defer sender.Close()
	send := func(size int) error {
		_, _, err := sender.SendMessage(&sarama.ProducerMessage{Topic: topic, Value: sarama.ByteEncoder(make([]byte, size))})
		return err
	}
	ok(send(921_600))
	fails(sarama.ErrMessageSizeTooLarge, send(1_200_000))
	ok(send(5))
	messages := readPartition(0, 2)
	same("length", 921_600, len(messages[0].Value))
	same("length of the record after it", 5, len(messages[1].Value))
}

func unknownTopic() {
	client := must(sarama.NewClient([]string{bootstrap}, config(func(c *sarama.Config) {
		c.Metadata.AllowAutoTopicCreation = false
		c.Metadata.Retry.Max = 1
	})))
	defer client.Close()
	_, err := client.Partitions(topic)
	fails(sarama.ErrUnknownTopicOrPartition, err)
	_, err = client.Partitions("not/a/topic")
	fails(sarama.ErrInvalidTopic, err)
	_, found := must(admin.ListTopics())[topic]
	check(!found, "the topic was created")
}

func brokerRestart() {
	create(3)
	sender := producer(func(c *sarama.Config) {
		c.Producer.Idempotent = true
		c.Net.MaxOpenRequests = 1
		c.Producer.Retry.Max = 600
		c.Producer.Retry.Backoff = 50 * time.Millisecond
		c.Metadata.Retry.Max = 600
		c.Metadata.Retry.Backoff = 50 * time.Millisecond
	})
	defer sender.Close()
	sendNumbers(sender, 0, 500, 3)
	ok(exec.Command("bash", "-c", os.Getenv("KLAMM_RESTART_CMD")).Run())
	sendNumbers(sender, 500, 1000, 3)
	inOrderOnce(1000)
}
