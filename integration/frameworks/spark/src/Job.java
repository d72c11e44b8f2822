import org.apache.spark.sql.SparkSession;
import org.apache.spark.sql.streaming.Trigger;

/**
 * {@code Job BOOTSTRAP DIRECTORY} counts how often each word came: for each word of the topic "words" that came since, "WORD COUNT" goes
 * to the topic "counts", with the word as key. Goes on from the checkpoint in the directory.
 */
public final class Job {
    private Job() {
    }

    public static void main(String[] arguments) throws Exception {
        try (SparkSession spark = SparkSession.builder().appName("counts").master("local[2]").config("spark.ui.enabled", "false")
                .config("spark.driver.host", "127.0.0.1").config("spark.driver.bindAddress", "127.0.0.1")
                .config("spark.sql.shuffle.partitions", "2").config("spark.sql.warehouse.dir", arguments[1] + "/warehouse").getOrCreate()) {
            spark.readStream().format("kafka").option("kafka.bootstrap.servers", arguments[0]).option("subscribe", "words")
                .option("startingOffsets", "earliest").option("maxOffsetsPerTrigger", "1000").option("kafka.isolation.level", "read_committed")
                .load()
                .selectExpr("CAST(value AS STRING) AS word").groupBy("word").count()
                .selectExpr("word AS key", "concat(word, ' ', count) AS value")
                .writeStream().format("kafka").option("kafka.bootstrap.servers", arguments[0]).option("topic", "counts")
                .option("checkpointLocation", arguments[1] + "/checkpoint").outputMode("update").trigger(Trigger.ProcessingTime(500))
                .start().awaitTermination();
        }
    }
}
