"""The stream between edges and writers, and the only importer of redis.

Keys of one partition share a hash tag, so that they live on one node of a cluster:
    clicks:{p}                       stream of recorded clicks, read by the group "writers"
    dead:{p}                         entries that could not be stored, with the reason
    ledger:{p}:<hour>                an hour's entries, counted by minute and kind
    lane:{p}:<lane>                  an appending connection's last sequence and answer
    unique:{p}:<window>:<slice>:<n>  buckets of visitors seen (record_clicks.lua)
    remembered:{p}                   memory of these buckets, and networks that get no more of it
    remembered:{p}:parts             the same by the hour in which it becomes free, and by network
    cap:{p}:<counter>                a cap's count in a period (tracker.domain.caps names it)
    edges:{p}                        heartbeats of edges by <slot>/<run id>: watermark, time, spooled clicks
    slots:{0}                        run id of the edge that owns a slot
    rate:{0}:<whose>                 rate limit of a token or an address; expires when all of it is free again
    postbacks:{0}                    postbacks on their way into the database
    postback-bytes:{0}               their size
    dead-postbacks:{0}               postbacks that could not be read, with the reason
    refused-postbacks:{0}            refused postbacks on their way to the log; bounded
    orphans:{0}                      the latest hits without a known offer or affiliate; bounded
    writer:{p}:<slot>                holder of a writer's slot
"""
