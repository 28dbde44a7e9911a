//! Places, with redis-server's replies.

use crate::node::Node;

#[test]
fn places_are_kept_found_and_stored() {
    Node::new().client().story(
        "GEOADD s 13.361389 38.115556 Palermo 15.087269 37.502669 Catania => 2
         GEOADD s NX CH 13 38 Palermo => 0
         GEOADD s XX 13 38 Rome => 0
         GEODIST s Palermo Catania => 166274.1516
         GEODIST s Palermo Catania km => 166.2742
         GEODIST s Palermo Rome => nil
         GEODIST s Palermo Catania yard => (ERR unsupported unit provided. please use M, KM, FT, MI)
         GEOHASH s Palermo Rome Catania => [sqc8b49rny0 nil sqdtr74hyu0]
         GEOPOS s Palermo Rome => [[13.36138933897018433 38.11555639549629859] nil]
         ZSCORE s Palermo => 3479099956230698
         GEOADD s 12.758489 38.788135 edge1 17.241510 38.788135 edge2 => 2
         GEOSEARCH s FROMLONLAT 15 37 BYRADIUS 200 km ASC => [Catania Palermo]
         GEOSEARCH s FROMLONLAT 15 37 BYBOX 400 400 km DESC WITHDIST => [[edge1 279.7405] [edge2 279.7403] [Palermo 190.4424] [Catania 56.4413]]
         GEOSEARCH s FROMMEMBER Palermo BYRADIUS 100 mi COUNT 1 WITHCOORD WITHHASH WITHDIST => [[Palermo 0.0000 3479099956230698 [13.36138933897018433 38.11555639549629859]]]
         GEORADIUS s 15 37 200 km WITHDIST DESC => [[Palermo 190.4424] [Catania 56.4413]]
         GEORADIUSBYMEMBER s Palermo 200 km COUNT 2 ANY ASC => [Palermo edge1]
         GEORADIUS_RO s 15 37 200 km STORE t => (ERR syntax error)
         GEORADIUS s 15 37 200 km STORE t => 2
         ZRANGE t 0 -1 => [Palermo Catania]
         GEOSEARCHSTORE t s FROMLONLAT 15 37 BYRADIUS 100 km STOREDIST => 1
         ZRANGE t 0 -1 => [Catania]
         GEOSEARCHSTORE t none FROMMEMBER x BYRADIUS 100 km => 0
         EXISTS t => 0
         GEOSEARCH s FROMMEMBER nobody BYRADIUS 1 m => (ERR could not decode requested zset member)
         GEOSEARCH s FROMLONLAT 15 37 ASC COUNT 1 => (ERR exactly one of BYRADIUS and BYBOX can be specified for GEOSEARCH)
         GEOSEARCH s BYRADIUS 1 m ASC COUNT 1 => (ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for GEOSEARCH)
         GEOSEARCH s FROMLONLAT 15 37 BYRADIUS 1 m ANY => (ERR the ANY argument requires COUNT argument)
         GEOADD s 181 0 x => (ERR invalid longitude,latitude pair 181.000000,0.000000)
         COMMAND GETKEYS GEORADIUS s 1 1 1 km STOREDIST b => [s b]",
    );
}
