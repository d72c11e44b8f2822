// The common scenarios, played with franz-go: client SCENARIO HOST:PORT.
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
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

var (
	scenario, bootstrap, topic string
	ctx                        context.Context
	admin                      *kadm.Client
)

type problem string

func main() {
	scenario, bootstrap = os.Args[1], os.Args[2]
	topic = fmt.Sprintf("franz-go-%s-%d", scenario, time.Now().UnixNano())
	var cancel context.CancelFunc
	ctx, cancel = context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	defer func() {
		if caught := recover(); caught != nil {
			fmt.Fprintf(os.Stderr, "franz-go: %s: %v\n", scenario, caught)
			if _, expected := caught.(problem); !expected {
				debug.PrintStack()
			}
			os.Exit(1)
		}
	}()
	admin = kadm.NewClient(client())
	map[string]func(){
		"produce-consume": produceConsume, "idempotent": idempotent, "group-rebalance": groupRebalance, "consumer-protocol": consumerProtocol,
		"transactions": transactions,
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

func client(options ...kgo.Opt) *kgo.Client {
	return must(kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(bootstrap), kgo.FetchMaxWait(100 * time.Millisecond), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.MetadataMinAge(50 * time.Millisecond), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
	}, options...)...))
}

// Records that count together or not at all, and a producer that another one replaces.
func transactions() {
	create(2)
	first := client(kgo.TransactionalID(topic))
	for i := range 20 {
		ok(first.BeginTransaction())
		kind, end := "committed", kgo.TryCommit
		if i%4 == 3 {
			kind, end = "aborted", kgo.TryAbort
		}
		for partition := range int32(2) {
			ok(first.ProduceSync(ctx, &kgo.Record{Topic: topic, Partition: partition, Value: []byte(fmt.Sprintf("%s-%d", kind, i))}).FirstErr())
		}
		ok(first.EndTransaction(ctx, end))
	}
	ok(first.BeginTransaction())
	ok(first.ProduceSync(ctx, &kgo.Record{Topic: topic, Partition: 0, Value: []byte("zombie")}).FirstErr())
	committed := must(admin.ListCommittedOffsets(ctx, topic))
	same("last stable offset", 40, committed[topic][0].Offset)
	second := client(kgo.TransactionalID(topic))
	ok(second.BeginTransaction())
	ok(second.ProduceSync(ctx, &kgo.Record{Topic: topic, Partition: 0, Value: []byte("committed-20")}).FirstErr())
	ok(second.EndTransaction(ctx, kgo.TryCommit))
	check(first.EndTransaction(ctx, kgo.TryCommit) != nil, "the first producer was not fenced")
	reader := client(kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	seen := map[string]bool{}
	for _, record := range poll(reader, 31) {
		check(strings.HasPrefix(string(record.Value), "committed-"), "an aborted record was read: %s", record.Value)
		seen[string(record.Value)] = true
	}
	check(seen["committed-20"], "the second producer's record is missing")
	listed := must(admin.ListTransactions(ctx, nil, nil))
	check(slices.Contains(listed.TransactionalIDs(), topic), "the transactional id is not in the list")
	for _, used := range []*kgo.Client{first, second, reader} {
		used.Close()
	}
}

func create(partitions int32) {
	must(admin.CreateTopic(ctx, partitions, 1, nil, topic))
}

func value(number int) []byte {
	return []byte(fmt.Sprintf("a value that repeats, repeats, repeats %d", number))
}

// Each number goes to the partition number modulo partitions; returns when all are acknowledged.
func sendNumbers(producer *kgo.Client, from, to int, partitions int) {
	var records []*kgo.Record
	for number := from; number < to; number++ {
		records = append(records, &kgo.Record{Topic: topic, Partition: int32(number % partitions), Key: []byte("k"), Value: []byte(strconv.Itoa(number))})
	}
	limited, cancel := context.WithTimeout(ctx, 40*time.Second)
	defer cancel()
	ok(producer.ProduceSync(limited, records...).FirstErr())
}

func poll(consumer *kgo.Client, count int) []*kgo.Record {
	limited, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	var records []*kgo.Record
	for len(records) < count {
		fetches := consumer.PollFetches(limited)
		check(limited.Err() == nil, "only %d of %d records came", len(records), count)
		ok(fetches.Err())
		records = append(records, fetches.Records()...)
	}
	return records
}

func readAll(count int) []*kgo.Record {
	var end int64
	must(admin.ListEndOffsets(ctx, topic)).Each(func(offset kadm.ListedOffset) { end += offset.Offset })
	same("end offsets", int64(count), end)
	consumer := client(kgo.ConsumeTopics(topic))
	defer consumer.Close()
	return poll(consumer, count)
}

func inOrderOnce(count int) {
	var read [3][]int
	for _, record := range readAll(count) {
		read[record.Partition] = append(read[record.Partition], must(strconv.Atoi(string(record.Value))))
	}
	for partition := range 3 {
		var expected []int
		for number := partition; number < count; number += 3 {
			expected = append(expected, number)
		}
		check(slices.Equal(expected, read[partition]), "partition %d: got %.200v", partition, read[partition])
	}
}

func produceConsume() {
	create(1)
	base := time.Now().UnixMilli() - 100_000
	codecs := []kgo.CompressionCodec{kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()}
	headers := []kgo.RecordHeader{{Key: "h", Value: []byte("1")}, {Key: "h", Value: []byte("2")}, {Key: "empty", Value: []byte{}}, {Key: "absent"}}
	for number, codec := range codecs {
		producer := client(kgo.ProducerBatchCompression(codec), kgo.ProducerLinger(20*time.Millisecond))
		var records []*kgo.Record
		for i := range 50 {
			record := &kgo.Record{Topic: topic, Key: []byte(fmt.Sprintf("%d-%d", number, i)), Value: value(i), Timestamp: time.UnixMilli(base + int64(i)), Headers: headers}
			if i == 7 {
				record.Key = nil
			}
			if i == 9 {
				record.Value = nil
			}
			records = append(records, record)
		}
		ok(producer.ProduceSync(ctx, records...).FirstErr())
		producer.Close()
	}
	for offset, record := range readAll(250) {
		number, i := offset/50, offset%50
		same("offset", int64(offset), record.Offset)
		same("no key", i == 7, record.Key == nil)
		if i != 7 {
			same("key", fmt.Sprintf("%d-%d", number, i), string(record.Key))
		}
		same("no value", i == 9, record.Value == nil)
		if i != 9 {
			same("value", string(value(i)), string(record.Value))
		}
		same("timestamp", base+int64(i), record.Timestamp.UnixMilli())
		same("headers", fmt.Sprint(headers), fmt.Sprint(record.Headers))
		check(record.Headers[2].Value != nil && record.Headers[3].Value == nil, "an empty header value is not an absent one")
	}
}

func idempotent() {
	create(3)
	producer := client(kgo.ProducerBatchMaxBytes(1024), kgo.ProducerLinger(time.Millisecond))
	defer producer.Close()
	sendNumbers(producer, 0, 1500, 3)
	inOrderOnce(1500)
}

type member struct {
	client *kgo.Client
	lock   sync.Mutex
	owned  map[int32]bool
}

func join(options ...kgo.Opt) *member {
	m := &member{owned: map[int32]bool{}}
	change := func(owns bool) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
			m.lock.Lock()
			defer m.lock.Unlock()
			for _, partition := range partitions[topic] {
				if delete(m.owned, partition); owns {
					m.owned[partition] = true
				}
			}
		}
	}
	m.client = client(append([]kgo.Opt{kgo.ConsumerGroup(topic), kgo.ConsumeTopics(topic), kgo.SessionTimeout(6 * time.Second), kgo.HeartbeatInterval(200 * time.Millisecond),
		kgo.Balancers(kgo.CooperativeStickyBalancer()), kgo.OnPartitionsAssigned(change(true)), kgo.OnPartitionsRevoked(change(false)), kgo.OnPartitionsLost(change(false))}, options...)...)
	go func() {
		for !m.client.PollFetches(ctx).IsClientClosed() && ctx.Err() == nil {
		}
	}()
	return m
}

func shared(members []*member, each int) bool {
	all := map[int32]bool{}
	for _, m := range members {
		m.lock.Lock()
		defer m.lock.Unlock()
		if len(m.owned) != each {
			return false
		}
		for partition := range m.owned {
			all[partition] = true
		}
	}
	return len(all) == 6 && len(members)*each == 6
}

func groupRebalance() {
	create(6)
	members := []*member{join(), join(), join()}
	until(60, "2 partitions for each of 3 members", func() bool { return shared(members, 2) })
	members[1].client.Close()
	members = []*member{members[0], members[2]}
	until(60, "3 partitions for each of 2 members", func() bool { return shared(members, 3) })
	var group kadm.DescribedGroup
	until(60, "a stable group", func() bool {
		group = must(admin.DescribeGroups(ctx, topic))[topic]
		return group.State == "Stable"
	})
	same("members", 2, len(group.Members))
	same("assignor", "cooperative-sticky", group.Protocol)
	for _, m := range members {
		m.client.Close()
	}
}

func consumerProtocol() {
	create(6)
	brokerAssigns := kgo.WithContext(context.WithValue(ctx, "opt_in_kafka_next_gen_balancer_beta", true))
	members := []*member{join(brokerAssigns), join(brokerAssigns), join(brokerAssigns)}
	until(60, "2 partitions for each of 3 members", func() bool { return shared(members, 2) })
	members[1].client.Close()
	members = []*member{members[0], members[2]}
	until(60, "3 partitions for each of 2 members", func() bool { return shared(members, 3) })
	// The older way to describe a group does not know those of the consumer protocol.
	same("state for the classic protocol", "Dead", must(admin.DescribeGroups(ctx, topic))[topic].State)
	for _, m := range members {
		m.client.Close()
	}
}

func commitResume() {
	create(1)
	producer := client()
	defer producer.Close()
	sendNumbers(producer, 0, 100, 1)
	options := []kgo.Opt{kgo.ConsumerGroup(topic), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(), kgo.SessionTimeout(6 * time.Second)}
	first := client(options...)
	records := poll(first, 40)
	ok(first.CommitRecords(ctx, records[39]))
	first.Close()
	second := client(options...)
	same("first record after the commit", 40, poll(second, 60)[0].Offset)
	second.Close()
	committed, found := must(admin.FetchOffsets(ctx, topic)).Lookup(topic, 0)
	check(found, "no committed offset")
	same("committed", 40, committed.At)
}

func listed(offsets kadm.ListedOffsets, err error) int64 {
	offset, found := must(offsets, err).Lookup(topic, 0)
	check(found, "no offset for the partition")
	ok(offset.Err)
	return offset.Offset
}

func offsetsByTime() {
	create(1)
	base := time.Now().UnixMilli() - 1_000_000
	producer := client()
	defer producer.Close()
	for i := range 20 {
		ok(producer.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: value(i), Timestamp: time.UnixMilli(base + int64(i)*1000)}).FirstErr())
	}
	same("exact", 5, listed(admin.ListOffsetsAfterMilli(ctx, base+5000, topic)))
	same("between", 6, listed(admin.ListOffsetsAfterMilli(ctx, base+5001, topic)))
	same("before all", 0, listed(admin.ListOffsetsAfterMilli(ctx, 0, topic)))
	same("after all (kadm then answers the end)", 20, listed(admin.ListOffsetsAfterMilli(ctx, base+10_000_000, topic)))
	same("earliest", 0, listed(admin.ListStartOffsets(ctx, topic)))
	same("latest", 20, listed(admin.ListEndOffsets(ctx, topic)))
	same("latest committed", 20, listed(admin.ListCommittedOffsets(ctx, topic)))
	same("largest timestamp", 19, listed(admin.ListMaxTimestampOffsets(ctx, topic)))
	same("earliest local", 0, listed(admin.ListLocalLogStartOffsets(ctx, topic)))
	consumer := client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AfterMilli(base + 5001)}}))
	defer consumer.Close()
	same("first record read after a time", 6, poll(consumer, 14)[0].Offset)
}

func administration() {
	retention := "123456"
	must(admin.CreateTopic(ctx, 2, 1, map[string]*string{"retention.ms": &retention}, topic))
	_, err := admin.CreateTopic(ctx, 1, 1, nil, topic)
	fails(kerr.TopicAlreadyExists, err)
	_, err = admin.CreateTopic(ctx, 1, 3, nil, topic+"-2")
	fails(kerr.InvalidReplicationFactor, err)
	check(must(admin.ListTopics(ctx)).Has(topic), "the new topic is not in the list")
	config := func(name string) string {
		for _, entry := range must(must(admin.DescribeTopicConfigs(ctx, topic)).On(topic, nil)).Configs {
			if entry.Key == name {
				return entry.MaybeValue()
			}
		}
		panic(problem("no config " + name))
	}
	alter := func(op kadm.IncrementalOp, value string) {
		responses := must(admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: op, Name: "retention.ms", Value: &value}}, topic))
		ok(must(responses.On(topic, nil)).Err)
	}
	same("retention.ms", "123456", config("retention.ms"))
	alter(kadm.SetConfig, "654321")
	until(60, "the new retention", func() bool { return config("retention.ms") == "654321" })
	alter(kadm.DeleteConfig, "")
	until(60, "the default retention", func() bool { return config("retention.ms") == "604800000" })
	ok(must(admin.UpdatePartitions(ctx, 4, topic)).Error())
	until(60, "4 partitions", func() bool { return len(must(admin.ListTopics(ctx, topic))[topic].Partitions) == 4 })
	fails(kerr.InvalidPartitions, must(admin.UpdatePartitions(ctx, 3, topic)).Error())

	producer := client()
	defer producer.Close()
	sendNumbers(producer, 0, 10, 1)
	before := kadm.Offsets{}
	before.AddOffset(topic, 0, 4, -1)
	deleted, found := must(admin.DeleteRecords(ctx, before)).Lookup(topic, 0)
	check(found && deleted.Err == nil, "delete records: %v", deleted.Err)
	same("low watermark", 4, deleted.LowWatermark)
	same("earliest after the deletion", 4, listed(admin.ListStartOffsets(ctx, topic)))

	commit := kadm.Offsets{}
	commit.AddOffset(topic, 0, 7, -1)
	ok(admin.CommitAllOffsets(ctx, topic, commit))
	check(slices.Contains(must(admin.ListGroups(ctx)).Groups(), topic), "the group is not in the list")
	same("group offset", 7, must(admin.FetchOffsets(ctx, topic))[topic][0].At)
	ok(must(admin.DeleteOffsets(ctx, topic, commit.TopicsSet())).Error())
	_, found = must(admin.FetchOffsets(ctx, topic)).Lookup(topic, 0)
	check(!found, "the deleted group offset is still there")
	ok(admin.CommitAllOffsets(ctx, topic, commit))
	must(admin.DeleteGroup(ctx, topic))
	check(!slices.Contains(must(admin.ListGroups(ctx)).Groups(), topic), "the deleted group is in the list")

	cluster := must(admin.BrokerMetadata(ctx))
	same("brokers", 1, len(cluster.Brokers))
	same("length of the cluster id", 22, len(cluster.Cluster))
	check(len(must(admin.DescribeAllLogDirs(ctx, nil))) == 1, "not one broker with log directories")
	versions := must(admin.ApiVersions(ctx))
	check(len(versions) > 0, "no API versions")

	must(admin.DeleteTopic(ctx, topic))
	until(60, "the topic is gone", func() bool { return !must(admin.ListTopics(ctx)).Has(topic) })
	_, err = admin.DeleteTopic(ctx, topic)
	fails(kerr.UnknownTopicOrPartition, err)
}

func largeMessage() {
	create(1)
	producer := client(kgo.ProducerBatchMaxBytes(4_000_000), kgo.ProducerBatchCompression(kgo.NoCompression()))
	defer producer.Close()
	send := func(size int) error {
		return producer.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte(strings.Repeat("x", size))}).FirstErr()
	}
	ok(send(921_600))
	fails(kerr.MessageTooLarge, send(1_200_000))
	ok(send(5))
	records := readAll(2)
	same("length", 921_600, len(records[0].Value))
	same("length of the record after it", 5, len(records[1].Value))
}

func unknownTopic() {
	producer := client(kgo.UnknownTopicRetries(2), kgo.RecordDeliveryTimeout(10*time.Second))
	defer producer.Close()
	fails(kerr.UnknownTopicOrPartition, producer.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: value(1)}).FirstErr())
	fails(kerr.InvalidTopicException, producer.ProduceSync(ctx, &kgo.Record{Topic: "not/a/topic", Value: value(1)}).FirstErr())
	fails(kerr.UnknownTopicOrPartition, must(admin.ListTopics(ctx, topic))[topic].Err)
	check(!must(admin.ListTopics(ctx)).Has(topic), "the topic was created")
}

func brokerRestart() {
	create(3)
	producer := client(kgo.RecordDeliveryTimeout(60*time.Second), kgo.RetryBackoffFn(func(int) time.Duration { return 50 * time.Millisecond }))
	defer producer.Close()
	sendNumbers(producer, 0, 500, 3)
	ok(exec.Command("bash", "-c", os.Getenv("KLAMM_RESTART_CMD")).Run())
	sendNumbers(producer, 500, 1000, 3)
	inOrderOnce(1000)
}
