// The common scenarios, played with confluent-kafka-javascript (librdkafka): client.js SCENARIO HOST:PORT.
const assert = require('node:assert/strict')
const { execFile } = require('node:child_process')
const { randomUUID } = require('node:crypto')
const { setTimeout: pause } = require('node:timers/promises')
const { promisify } = require('node:util')
const { KafkaJS: { CompressionTypes, ConsumerGroupStates, ErrorCodes, Kafka, logLevel } } = require('@confluentinc/kafka-javascript')

const [scenario, bootstrap] = process.argv.slice(2)
const topic = `confluent-javascript-${scenario}-${randomUUID()}`
const kafka = new Kafka({
  kafkaJS: { brokers: [bootstrap], clientId: 'scenarios', logLevel: logLevel.NOTHING },
  'reconnect.backoff.ms': 20, 'reconnect.backoff.max.ms': 200,
})
const admin = kafka.admin()
const value = number => `a value that repeats, repeats, repeats ${number}`
const numbers = (from, to, step = 1) => Array.from({ length: Math.ceil((to - from) / step) }, (_, i) => from + i * step)

async function until (seconds, what, condition) {
  for (const end = Date.now() + seconds * 1000; !await condition(); await pause(20)) {
    assert(Date.now() < end, `waited too long for ${what}`)
  }
}

async function fails (names, promise) {
  const error = await promise.then(() => null, problem => problem)
  assert(error, `expected ${names} but it succeeded`)
  const { code, message } = error.errors?.[0] ?? error
  assert([names].flat().some(name => code === ErrorCodes[name]), `expected ${names} but got ${code} (${message})`)
}

const create = (numPartitions, options = {}) => admin.createTopics({ topics: [{ topic, numPartitions, replicationFactor: 1, ...options }] })

async function producer (options = {}, configuration = {}) {
  const sender = kafka.producer({ kafkaJS: options, 'linger.ms': 1, ...configuration })
  await sender.connect()
  return sender
}

const sendNumbers = (sender, list, partitions) =>
  sender.send({ topic, messages: list.map(i => ({ value: String(i), key: 'k', partition: i % partitions })) })

const consumer = groupId => kafka.consumer({
  kafkaJS: { groupId, fromBeginning: true, autoCommit: false, sessionTimeout: 6000, heartbeatInterval: 200 },
  'fetch.wait.max.ms': 100,
})

async function readAs (groupId, count, commit) {
  const messages = []
  const reader = consumer(groupId)
  await reader.connect()
  await reader.subscribe({ topics: [topic] })
  await reader.run({ eachMessage: async ({ partition, message }) => { messages.push({ partition, ...message }) } })
  await until(60, `${count} messages`, () => messages.length >= count)
  if (commit !== undefined) await reader.commitOffsets([{ topic, partition: 0, offset: String(commit), metadata: 'forty' }])
  await reader.disconnect()
  return messages
}

async function readAll (count) {
  const ends = await admin.fetchTopicOffsets(topic)
  assert.equal(ends.reduce((sum, p) => sum + Number(p.offset), 0), count, 'end offsets')
  return readAs(`${topic}-${randomUUID()}`, count)
}

async function inOrderOnce (count) {
  const messages = await readAll(count)
  for (const partition of [0, 1, 2]) {
    assert.deepEqual(messages.filter(m => m.partition === partition).map(m => Number(m.value)), numbers(partition, count, 3), `partition ${partition}`)
  }
}

const scenarios = {
  async 'produce-consume' () {
    await create(1)
    const base = Date.now() - 100_000
    const codecs = [CompressionTypes.None, CompressionTypes.GZIP, CompressionTypes.SNAPPY, CompressionTypes.LZ4, CompressionTypes.ZSTD]
    for (const [number, compression] of codecs.entries()) {
      const sender = await producer({ compression }, { 'linger.ms': 20 })
      await sender.send({
        topic,
        messages: numbers(0, 50).map(i => ({
          key: i === 7 ? null : `${number}-${i}`, value: i === 9 ? null : value(i), timestamp: String(base + i), headers: { h: ['1', '2'], empty: '' },
        })),
      })
      await sender.disconnect()
    }
    for (const [offset, message] of (await readAll(250)).entries()) {
      const i = offset % 50
      assert.equal(message.offset, String(offset), 'offset')
      assert.equal(message.key?.toString() ?? null, i === 7 ? null : `${Math.floor(offset / 50)}-${i}`, 'key')
      assert.equal(message.value?.toString() ?? null, i === 9 ? null : value(i), 'value')
      assert.equal(message.timestamp, String(base + i), 'timestamp')
      assert.deepEqual(message.headers.h.map(String), ['1', '2'], 'two headers of one name')
      assert.equal(message.headers.empty.toString(), '', 'a header without content')
    }
  },

  async idempotent () {
    await create(3)
    const sender = await producer({ idempotent: true }, { 'batch.num.messages': 20 })
    await sendNumbers(sender, numbers(0, 1500), 3)
    await inOrderOnce(1500)
  },

  async 'group-rebalance' () {
    await create(6)
    const join = async () => {
      const member = consumer(topic)
      await member.connect()
      await member.subscribe({ topics: [topic] })
      await member.run({ eachMessage: async () => {} })
      return member
    }
    const members = await Promise.all([join(), join(), join()])
    const shared = each => {
      const lists = members.map(member => member.assignment().map(p => p.partition))
      return lists.every(list => list.length === each) && new Set(lists.flat()).size === 6
    }
    await until(60, '2 partitions for each of 3 members', () => shared(2))
    await members.splice(1, 1)[0].disconnect()
    await until(60, '3 partitions for each of 2 members', () => shared(3))
    const { groups: [group] } = await admin.describeGroups([topic])
    assert.equal(group.state, ConsumerGroupStates.STABLE)
    assert.equal(group.members.length, 2)
    await Promise.all(members.map(member => member.disconnect()))
  },

  async 'commit-resume' () {
    await create(1)
    await sendNumbers(await producer(), numbers(0, 100), 1)
    await readAs(topic, 40, 40)
    assert.equal((await readAs(topic, 60))[0].offset, '40', 'first message after the commit')
    const [{ partitions: [committed] }] = await admin.fetchOffsets({ groupId: topic, topics: [topic] })
    assert.deepEqual([committed.offset, committed.metadata], ['40', 'forty'])
  },

  async 'offsets-by-time' () {
    await create(1)
    const base = Date.now() - 1_000_000
    await (await producer()).send({ topic, messages: numbers(0, 20).map(i => ({ value: value(i), timestamp: String(base + i * 1000) })) })
    for (const [what, time, expected] of [['exact', base + 5000, '5'], ['between', base + 5001, '6'], ['after all (the client answers the end)', base + 10_000_000, '20']]) {
      assert.equal((await admin.fetchTopicOffsetsByTimestamp(topic, time))[0].offset, expected, what)
    }
    const [{ low, high }] = await admin.fetchTopicOffsets(topic)
    assert.deepEqual([low, high], ['0', '20'])
  },

  // The client has no requests for configurations, partitions, the offsets of a group or the cluster.
  async admin () {
    assert.equal(await create(2, { configEntries: [{ name: 'retention.ms', value: '123456' }] }), true)
    assert.equal(await create(1), false, 'created a topic twice')
    await fails('ERR_INVALID_REPLICATION_FACTOR', admin.createTopics({ topics: [{ topic: `${topic}-2`, numPartitions: 1, replicationFactor: 3 }] }))
    await fails('ERR_INVALID_CONFIG', admin.createTopics({ topics: [{ topic: `${topic}-2`, numPartitions: 1, replicationFactor: 1, configEntries: [{ name: 'retention.ms', value: 'x' }] }] }))
    assert((await admin.listTopics()).includes(topic), 'the new topic is not in the list')
    const [{ partitions, topicId }] = await admin.fetchTopicMetadata({ topics: [topic] })
    assert.equal(partitions.length, 2)
    assert(topicId, 'the topic has no id')

    const sender = await producer()
    await sendNumbers(sender, numbers(0, 10), 1)
    await sender.disconnect()
    const [{ lowWatermark }] = await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '4' }] })
    assert.equal(lowWatermark, 4)
    assert.equal((await admin.fetchTopicOffsets(topic)).find(p => p.partition === 0).low, '4', 'earliest after the deletion')

    await readAs(topic, 6, 7)
    const groups = async () => (await admin.listGroups()).groups.map(g => g.groupId)
    assert((await groups()).includes(topic), 'the group is not in the list')
    await admin.deleteGroups([topic])
    assert(!(await groups()).includes(topic), 'the deleted group is in the list')

    await admin.deleteTopics({ topics: [topic] })
    // The client asks for topics that it has used from time to time, which creates them again: this one it has not.
    const unused = `${topic}-unused`
    await admin.createTopics({ topics: [{ topic: unused, numPartitions: 1, replicationFactor: 1 }] })
    await admin.deleteTopics({ topics: [unused] })
    await fails('ERR_UNKNOWN_TOPIC_OR_PART', admin.deleteTopics({ topics: [unused] }))
  },

  async 'large-message' () {
    await create(1)
    const sender = await producer({}, { 'message.max.bytes': 4_000_000 })
    const send = size => sender.send({ topic, messages: [{ value: Buffer.alloc(size, 'x') }] })
    await send(921_600)
    await fails('ERR_MSG_SIZE_TOO_LARGE', send(1_200_000))
    await send(5)
    assert.deepEqual((await readAll(2)).map(m => m.value.length), [921_600, 5])
  },

  async 'unknown-topic' () {
    await fails('ERR_UNKNOWN_TOPIC_OR_PART', admin.fetchTopicMetadata({ topics: [topic] }))
    const sender = await producer({ allowAutoTopicCreation: false }, { 'topic.metadata.propagation.max.ms': 500 })
    await fails('ERR_UNKNOWN_TOPIC_OR_PART', sender.send({ topic, messages: [{ value: 'v' }] }))
    // The second one when the broker's answer comes before the client has chosen a partition.
    await fails(['ERR_TOPIC_EXCEPTION', 'ERR__UNKNOWN_TOPIC'], sender.send({ topic: 'not/a/topic', messages: [{ value: 'v' }] }))
    assert(!(await admin.listTopics()).includes(topic), 'the topic was created')
  },

  async 'broker-restart' () {
    await create(3)
    const sender = await producer({ idempotent: true })
    await sendNumbers(sender, numbers(0, 500), 3)
    await promisify(execFile)('bash', ['-c', process.env.KLAMM_RESTART_CMD])
    await sendNumbers(sender, numbers(500, 1000), 3)
    await inOrderOnce(1000)
  },
}

async function main () {
  await admin.connect()
  await scenarios[scenario]()
}

const fail = problem => {
  console.error(`confluent-kafka-javascript: ${scenario}: ${problem.message} ${problem.stack?.match(/client\.js:\d+/)?.[0] ?? ''}`.replaceAll('\n', ' '))
  process.exit(1)
}
process.on('unhandledRejection', fail)
setTimeout(() => fail(new Error('not done after 90 s')), 90_000)
main().then(() => process.exit(0), fail)
