-- Events that are put off again and again are counted by every relay, every few seconds.

create index waiting_often_deferred on outbox.waiting (deferrals) where deferrals >= 25;
