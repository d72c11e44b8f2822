// The common scenarios, played with KafkaJS: client.js SCENARIO HOST:PORT.
const assert = require('node:assert/strict')
const { execFile } = require('node:child_process')
const { randomUUID } = require('node:crypto')
const { setTimeout: pause } = require('node:timers/promises')
const { promisify } = require('node:util')
const zlib = require('node:zlib')
const { AssignerProtocol, CompressionCodecs, CompressionTypes, ConfigResourceTypes, Kafka, logLevel } = require('kafkajs')
const lz4 = require('lz4-napi')

CompressionCodecs[CompressionTypes.Snappy] = require('kafkajs-snappy')
CompressionCodecs[CompressionTypes.LZ4] = () => ({ compress: encoder => lz4.compressFrame(encoder.buffer), decompress: buffer => lz4.decompressFrame(buffer) })
CompressionCodecs[CompressionTypes.ZSTD] = () => ({ compress: async encoder => zlib.zstdCompressSync(encoder.buffer), decompress: async buffer => zlib.zstdDecompressSync(buffer) })

const [scenario, bootstrap] = process.argv.slice(2)
const topic = `kafkajs-${scenario}-${randomUUID()}`
const kafka = new Kafka({
  brokers: [bootstrap], clientId: 'scenarios', logLevel: logLevel.NOTHING, requestTimeout: 10_000,
  retry: { initialRetryTime: 50, maxRetryTime: 200, retries: 200 },
})
// One that gives up soon, for what must fail.
const impatient = new Kafka({ brokers: [bootstrap], clientId: 'impatient', logLevel: logLevel.NOTHING, retry: { initialRetryTime: 20, retries: 1 } })
const admin = kafka.admin()
const value = number => `a value that repeats, repeats, repeats ${number}`
const numbers = (from, to, step = 1) => Array.from({ length: Math.ceil((to - from) / step) }, (_, i) => from + i * step)

async function until (seconds, what, condition) {
  for (const end = Date.now() + seconds * 1000; !await condition(); await pause(20)) {
    assert(Date.now() < end, `waited too long for ${what}`)
  }
}

async function fails (type, promise) {
  const error = await promise.then(() => null, problem => problem)
  assert(error, `expected ${type} but it succeeded`)
  const found = [error, error.cause, ...(error.errors ?? [])].filter(Boolean).map(e => e.type ?? e.name)
  assert(found.includes(type), `expected ${type} but got ${found} (${error.message})`)
}

const create = (numPartitions, options = {}) => admin.createTopics({ topics: [{ topic, numPartitions, replicationFactor: 1, ...options }] })

async function producer (options = {}) {
  const sender = kafka.producer(options)
  await sender.connect()
  return sender
}

const sendNumbers = (sender, list, partitions) => sender.send({
  topic, acks: -1, timeout: 30_000, messages: list.map(n => ({ key: 'k', value: String(n), partition: n % partitions })),
})

const consumer = groupId => kafka.consumer({
  groupId, sessionTimeout: 6000, heartbeatInterval: 200, rebalanceTimeout: 6000, maxWaitTimeInMs: 100, allowAutoTopicCreation: false,
})

// Reads `count` messages as a member of a group; `commit` is the offset to commit then.
async function readAs (groupId, count, commit) {
  const reader = consumer(groupId)
  const messages = []
  await reader.connect()
  await reader.subscribe({ topics: [topic], fromBeginning: true })
  await reader.run({ autoCommit: false, eachMessage: async ({ partition, message }) => { messages.push({ partition, ...message }) } })
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
    const codecs = [CompressionTypes.None, CompressionTypes.GZIP, CompressionTypes.Snappy, CompressionTypes.LZ4, CompressionTypes.ZSTD]
    const sender = await producer()
    for (const [number, compression] of codecs.entries()) {
      const [result] = await sender.send({
        topic, compression, acks: -1,
        messages: numbers(0, 50).map(i => ({
          key: i === 7 ? null : `${number}-${i}`, value: i === 9 ? null : value(i), timestamp: String(base + i), headers: { h: ['1', '2'], empty: '' },
        })),
      })
      assert.equal(result.baseOffset, String(number * 50), 'base offset')
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
    const sender = await producer({ idempotent: true, maxInFlightRequests: 1 })
    for (const from of numbers(0, 1500, 30)) await sendNumbers(sender, numbers(from, from + 30), 3)
    await inOrderOnce(1500)
  },

  async 'group-rebalance' () {
    await create(6)
    const owned = new Map()
    const join = async () => {
      const member = consumer(topic)
      owned.set(member, [])
      member.on('consumer.group_join', ({ payload }) => { owned.set(member, payload.memberAssignment[topic] ?? []) })
      member.on('consumer.rebalancing', () => { owned.set(member, []) })
      await member.connect()
      await member.subscribe({ topics: [topic], fromBeginning: true })
      await member.run({ eachMessage: async () => {} })
      return member
    }
    const shared = each => {
      const lists = [...owned.values()]
      return lists.every(list => list.length === each) && new Set(lists.flat()).size === 6
    }
    const members = await Promise.all([join(), join(), join()])
    await until(60, '2 partitions for each of 3 members', () => shared(2))
    await members[1].disconnect()
    owned.delete(members[1])
    await until(60, '3 partitions for each of 2 members', () => shared(3))
    const { groups: [group] } = await admin.describeGroups([topic])
    assert.equal(group.state, 'Stable')
    assert.equal(group.members.length, 2)
    assert(AssignerProtocol.MemberAssignment.decode(group.members[0].memberAssignment).assignment[topic], 'an assignment of the topic')
    await Promise.all([members[0].disconnect(), members[2].disconnect()])
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
    for (const [what, time, expected] of [['exact', base + 5000, '5'], ['between', base + 5001, '6'], ['after all (KafkaJS answers the end)', base + 10_000_000, '20']]) {
      assert.equal((await admin.fetchTopicOffsetsByTimestamp(topic, time))[0].offset, expected, what)
    }
    const [{ low, high }] = await admin.fetchTopicOffsets(topic)
    assert.deepEqual([low, high], ['0', '20'])
  },

  async admin () {
    await create(2, { configEntries: [{ name: 'retention.ms', value: '123456' }] })
    assert.equal(await create(1), false, 'created a topic twice')
    await fails('INVALID_REPLICATION_FACTOR', impatient.admin().createTopics({ topics: [{ topic: `${topic}-2`, numPartitions: 1, replicationFactor: 3 }] }))
    assert((await admin.listTopics()).includes(topic), 'the new topic is not in the list')
    const config = async name => {
      const { resources: [resource] } = await admin.describeConfigs({ resources: [{ type: ConfigResourceTypes.TOPIC, name: topic }] })
      return resource.configEntries.find(entry => entry.configName === name).configValue
    }
    const partitions = async () => (await admin.fetchTopicMetadata({ topics: [topic] })).topics[0].partitions.length
    assert.equal(await config('retention.ms'), '123456')
    await admin.alterConfigs({ resources: [{ type: ConfigResourceTypes.TOPIC, name: topic, configEntries: [{ name: 'retention.ms', value: '654321' }] }] })
    await until(60, 'the new retention', async () => await config('retention.ms') === '654321')
    await admin.createPartitions({ topicPartitions: [{ topic, count: 4 }] })
    await until(60, '4 partitions', async () => await partitions() === 4)
    await until(60, 'leaders of all partitions', () => admin.fetchTopicOffsets(topic).then(() => true, () => false))
    await fails('INVALID_PARTITIONS', impatient.admin().createPartitions({ topicPartitions: [{ topic, count: 3 }] }))

    await sendNumbers(await producer(), numbers(0, 10), 1)
    await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '4' }] })
    assert.equal((await admin.fetchTopicOffsets(topic)).find(p => p.partition === 0).low, '4', 'earliest after the deletion')

    await admin.setOffsets({ groupId: topic, topic, partitions: [{ partition: 0, offset: '7' }] })
    const groups = async () => (await admin.listGroups()).groups.map(g => g.groupId)
    assert((await groups()).includes(topic), 'the group is not in the list')
    const [{ partitions: offsets }] = await admin.fetchOffsets({ groupId: topic, topics: [topic] })
    assert.equal(offsets.find(p => p.partition === 0).offset, '7', 'group offset')
    await admin.deleteGroups([topic])
    assert(!(await groups()).includes(topic), 'the deleted group is in the list')

    const cluster = await admin.describeCluster()
    assert.equal(cluster.brokers.length, 1)
    assert.equal(cluster.clusterId.length, 22)
    await admin.deleteTopics({ topics: [topic] })
    await until(60, 'the topic is gone', async () => !(await admin.listTopics()).includes(topic))
    await fails('UNKNOWN_TOPIC_OR_PARTITION', impatient.admin().deleteTopics({ topics: [topic] }))
  },

  async 'large-message' () {
    await create(1)
    const sender = await producer({ retry: { retries: 0 } })
    const send = size => sender.send({ topic, messages: [{ value: Buffer.alloc(size, 'x') }] })
    await send(921_600)
    await fails('MESSAGE_TOO_LARGE', send(1_200_000))
    await send(5)
    assert.deepEqual((await readAll(2)).map(m => m.value.length), [921_600, 5])
  },

  async 'unknown-topic' () {
    const sender = impatient.producer({ allowAutoTopicCreation: false, retry: { initialRetryTime: 20, retries: 1 } })
    await sender.connect()
    await fails('UNKNOWN_TOPIC_OR_PARTITION', sender.send({ topic, messages: [{ value: 'v' }] }))
    await fails('INVALID_TOPIC_EXCEPTION', sender.send({ topic: 'not/a/topic', messages: [{ value: 'v' }] }))
    assert(!(await admin.listTopics()).includes(topic), 'the topic was created')
  },

  async 'broker-restart' () {
    await create(3)
    const sender = await producer({ idempotent: true, maxInFlightRequests: 1 })
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
  console.error(`kafkajs: ${scenario}: ${problem.message} ${problem.stack?.match(/client\.js:\d+/)?.[0] ?? ''}`.replaceAll('\n', ' '))
  process.exit(1)
}
process.on('unhandledRejection', fail)
setTimeout(() => fail(new Error('not done after 90 s')), 90_000)
main().then(() => process.exit(0), fail)
