// The common scenarios, played with @platformatic/kafka: client.js SCENARIO HOST:PORT.
const assert = require('node:assert/strict')
const { execFile } = require('node:child_process')
const { randomUUID } = require('node:crypto')
const { setTimeout: pause } = require('node:timers/promises')
const { promisify } = require('node:util')
const { Admin, Consumer, Producer, stringDeserializers, stringSerializers } = require('@platformatic/kafka')

const TOPIC_RESOURCE = 2
const SET = 0
const DELETE = 1
const [scenario, bootstrap] = process.argv.slice(2)
const topic = `platformatic-${scenario}-${randomUUID()}`
const base = { clientId: 'scenarios', bootstrapBrokers: [bootstrap], strict: true, retries: 100, retryDelay: 50, timeout: 10_000 }
const admin = new Admin(base)
const value = number => `a value that repeats, repeats, repeats ${number}`
const numbers = (from, to, step = 1) => Array.from({ length: Math.ceil((to - from) / step) }, (_, i) => from + i * step)

async function until (seconds, what, condition) {
  for (const end = Date.now() + seconds * 1000; !await condition(); await pause(20)) {
    assert(Date.now() < end, `waited too long for ${what}`)
  }
}

async function fails (code, promise) {
  const error = await promise.then(() => null, problem => problem)
  assert(error, `expected ${code} but it succeeded`)
  const found = []
  const collect = e => { if (e) { found.push(e.apiId ?? e.code); collect(e.cause); (e.errors ?? []).forEach(collect) } }
  collect(error)
  assert(found.includes(code), `expected ${code} but got ${found} (${error.message})`)
}

const create = (partitions, options = {}) => admin.createTopics({ topics: [topic], partitions, replicas: 1, ...options })
const producer = (options = {}) => new Producer({ ...base, serializers: stringSerializers, ...options })
const sendNumbers = (sender, list, partitions) => sender.send({
  acks: -1, messages: list.map(n => ({ topic, key: 'k', value: String(n), partition: n % partitions })),
})

const consumer = groupId => new Consumer({
  ...base, groupId, deserializers: stringDeserializers, sessionTimeout: 6000, heartbeatInterval: 200, rebalanceTimeout: 6000, maxWaitTime: 100, autocommit: false,
})

// Reads `count` messages as a member of a group; `commit` is the offset to commit then.
async function readAs (groupId, count, commit, maxBytes) {
  const reader = consumer(groupId)
  const messages = []
  const stream = await reader.consume({ topics: [topic], mode: 'committed', fallbackMode: 'earliest', maxBytes })
  stream.on('data', message => messages.push(message))
  await until(60, `${count} messages`, () => messages.length >= count)
  if (commit !== undefined) await reader.commit({ offsets: [{ topic, partition: 0, offset: BigInt(commit), leaderEpoch: -1 }] })
  await stream.close()
  await reader.close()
  return messages
}

async function offset (timestamp, partitions = [0]) {
  const [{ partitions: found }] = await admin.listOffsets({ topics: [{ name: topic, partitions: partitions.map(partitionIndex => ({ partitionIndex, timestamp: BigInt(timestamp) })) }] })
  return found.reduce((sum, p) => sum + Number(p.offset), 0)
}

async function readAll (count, partitions = [0]) {
  assert.equal(await offset(-1, partitions), count, 'end offsets')
  return readAs(`${topic}-${randomUUID()}`, count)
}

async function inOrderOnce (count) {
  const messages = await readAll(count, [0, 1, 2])
  for (const partition of [0, 1, 2]) {
    assert.deepEqual(messages.filter(m => m.partition === partition).map(m => Number(m.value)), numbers(partition, count, 3), `partition ${partition}`)
  }
}

const scenarios = {
  async 'produce-consume' () {
    await create(1)
    const start = Date.now() - 100_000
    const sender = producer()
    const codecs = ['none', 'gzip', 'snappy', 'lz4', 'zstd']
    for (const [number, compression] of codecs.entries()) {
      const { offsets } = await sender.send({
        compression, acks: -1,
        messages: numbers(0, 50).map(i => ({
          topic, partition: 0, key: i === 7 ? undefined : `${compression}-${i}`, value: i === 9 ? null : value(i), timestamp: BigInt(start + i), headers: { h: '1', empty: '' },
        })),
      })
      assert.equal(offsets[0].offset, BigInt(number * 50), 'base offset')
    }
    for (const [at, message] of (await readAll(250)).entries()) {
      const i = at % 50
      assert.equal(message.offset, BigInt(at), 'offset')
      assert.equal(message.key || null, i === 7 ? null : `${codecs[Math.floor(at / 50)]}-${i}`, 'key')
      assert.equal(message.value || null, i === 9 ? null : value(i), 'value')
      assert.equal(message.timestamp, BigInt(start + i), 'timestamp')
      assert.deepEqual([message.headers.get('h'), message.headers.get('empty') || ''], ['1', ''], 'headers')
    }
  },

  async idempotent () {
    await create(3)
    const sender = producer({ idempotent: true })
    for (const from of numbers(0, 1500, 30)) await sendNumbers(sender, numbers(from, from + 30), 3)
    await inOrderOnce(1500)
  },

  async 'group-rebalance' () {
    await create(6)
    const join = async () => {
      const member = consumer(topic)
      const stream = await member.consume({ topics: [topic], mode: 'earliest' })
      stream.on('data', () => {})
      return { member, stream, leave: async () => { await stream.close(); await member.close() } }
    }
    const members = await Promise.all([join(), join(), join()])
    const shared = each => {
      const lists = members.map(({ member }) => (member.assignments ?? []).flatMap(a => a.partitions))
      return lists.every(list => list.length === each) && new Set(lists.flat()).size === 6
    }
    await until(60, '2 partitions for each of 3 members', () => shared(2))
    await members.splice(1, 1)[0].leave()
    await until(60, '3 partitions for each of 2 members', () => shared(3))
    const group = (await admin.describeGroups({ groups: [topic] })).get(topic)
    assert.equal(group.state.toUpperCase(), 'STABLE')
    assert.equal(group.members.size, 2)
    for (const { leave } of members) await leave()
  },

  async 'commit-resume' () {
    await create(1)
    await sendNumbers(producer(), numbers(0, 100), 1)
    await readAs(topic, 40, 40)
    assert.equal((await readAs(topic, 60))[0].offset, 40n, 'first message after the commit')
    const [group] = await admin.listConsumerGroupOffsets({ groups: [topic] })
    assert.equal(group.topics[0].partitions[0].committedOffset, 40n)
  },

  async 'offsets-by-time' () {
    await create(1)
    const start = Date.now() - 1_000_000
    await producer().send({ messages: numbers(0, 20).map(i => ({ topic, value: value(i), timestamp: BigInt(start + i * 1000) })) })
    for (const [what, time, expected] of [
      ['exact', start + 5000, 5], ['between', start + 5001, 6], ['before all', 0, 0], ['after all', start + 10_000_000, -1],
      ['latest', -1, 20], ['earliest', -2, 0], ['largest timestamp', -3, 19], ['earliest local', -4, 0],
    ]) assert.equal(await offset(time), expected, what)
  },

  async admin () {
    await create(2, { configs: [{ name: 'retention.ms', value: '123456' }] })
    await fails('TOPIC_ALREADY_EXISTS', create(1))
    await fails('INVALID_REPLICATION_FACTOR', admin.createTopics({ topics: [`${topic}-2`], partitions: 1, replicas: 3 }))
    assert((await admin.listTopics()).includes(topic), 'the new topic is not in the list')
    const config = async name => {
      const [resource] = await admin.describeConfigs({ resources: [{ resourceType: TOPIC_RESOURCE, resourceName: topic, configurationKeys: [name] }] })
      return resource.configs[0].value
    }
    const alter = change => admin.incrementalAlterConfigs({ resources: [{ resourceType: TOPIC_RESOURCE, resourceName: topic, configs: [{ name: 'retention.ms', ...change }] }] })
    assert.equal(await config('retention.ms'), '123456')
    await alter({ configOperation: SET, value: '654321' })
    await until(60, 'the new retention', async () => await config('retention.ms') === '654321')
    await alter({ configOperation: DELETE })
    await until(60, 'the default retention', async () => await config('retention.ms') === '604800000')
    await admin.createPartitions({ topics: [{ name: topic, count: 4 }] })
    await until(60, '4 partitions', async () => (await admin.metadata({ topics: [topic], forceUpdate: true })).topics.get(topic).partitionsCount === 4)
    await fails('INVALID_PARTITIONS', admin.createPartitions({ topics: [{ name: topic, count: 3 }] }))

    await sendNumbers(producer(), numbers(0, 10), 1)
    const [deleted] = await admin.deleteRecords({ topics: [{ name: topic, partitions: [{ partition: 0, offset: 4n }] }] })
    assert.equal(deleted.partitions[0].lowWatermark, 4n, 'low watermark')
    assert.equal(await offset(-2), 4, 'earliest after the deletion')

    const commit = () => admin.alterConsumerGroupOffsets({ groupId: topic, topics: [{ name: topic, partitionOffsets: [{ partition: 0, offset: 7n }] }] })
    const groups = async () => [...(await admin.listGroups()).keys()]
    const committed = async () => (await admin.listConsumerGroupOffsets({ groups: [topic] }))[0].topics[0]?.partitions[0].committedOffset
    await commit()
    assert((await groups()).includes(topic), 'the group is not in the list')
    assert.equal(await committed(), 7n, 'group offset')
    await admin.deleteConsumerGroupOffsets({ groupId: topic, topics: [{ name: topic, partitionIndexes: [0] }] })
    assert.equal(await committed(), undefined, 'group offset after its deletion')
    await commit()
    await admin.deleteGroups({ groups: [topic] })
    assert(!(await groups()).includes(topic), 'the deleted group is in the list')

    const cluster = await admin.metadata({ topics: [], forceUpdate: true })
    assert.equal(cluster.brokers.size, 1)
    assert.equal(cluster.id.length, 22)
    assert.equal((await admin.describeLogDirs({ topics: [{ name: topic, partitions: [0] }] })).length, 1, 'brokers with log directories')
    await admin.deleteTopics({ topics: [topic] })
    await until(60, 'the topic is gone', async () => !(await admin.listTopics()).includes(topic))
    await fails('UNKNOWN_TOPIC_OR_PARTITION', admin.deleteTopics({ topics: [topic] }))
  },

  async 'large-message' () {
    await create(1)
    const sender = producer({ retries: 0 })
    const send = size => sender.send({ acks: -1, messages: [{ topic, value: 'x'.repeat(size) }] })
    await send(921_600)
    await fails('MESSAGE_TOO_LARGE', send(1_200_000))
    await send(5)
    assert.deepEqual((await readAll(2)).map(m => m.value.length), [921_600, 5])
  },

  async 'unknown-topic' () {
    await assert.rejects(producer({ autocreateTopics: false, retries: 0 }).send({ messages: [{ topic, value: 'v' }] }), /Unknown topic/)
    await fails('INVALID_TOPIC_EXCEPTION', admin.createTopics({ topics: ['not/a/topic'], partitions: 1, replicas: 1 }))
    assert(!(await admin.listTopics()).includes(topic), 'the topic was created')
  },

  async 'broker-restart' () {
    await create(3)
    const sender = producer({ idempotent: true, retries: 300 })
    await sendNumbers(sender, numbers(0, 500), 3)
    await promisify(execFile)('bash', ['-c', process.env.KLAMM_RESTART_CMD])
    await sendNumbers(sender, numbers(500, 1000), 3)
    await inOrderOnce(1000)
  },
}

const fail = problem => {
  const causes = (problem.errors ?? []).map(e => e.message).join('; ')
  console.error(`platformatic-kafka: ${scenario}: ${problem.message} ${causes} ${problem.stack?.match(/client\.js:\d+/)?.[0] ?? ''}`.replaceAll('\n', ' '))
  process.exit(1)
}
process.on('unhandledRejection', fail)
setTimeout(() => fail(new Error('not done after 90 s')), 90_000)
scenarios[scenario]().then(() => process.exit(0), fail)
