/* tests/server_services/jwt_keys.h - keys made for the tests, and tokens that etcd 3.5.15 made with
 * them for the user root at revision 3 of the users. */
#ifndef TESTS_SERVER_SERVICES_JWT_KEYS_H
#define TESTS_SERVER_SERVICES_JWT_KEYS_H

static const char rsa_private[] =
    "-----BEGIN PRIVATE KEY-----\n"
    "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQDmcEPuukMjiSQd\n"
    "M0CcoHMoyjUWVxLtEMEsbnu8OPWdtNed4zAPFL8JaUdLUksDaD7OlTGq4DG5jTvi\n"
    "QGrr9HoD8HNH5yv+HxVc5v5AXx2ERAiJK4m5Wad6Di7yCwsVmDiQzzXankueYq56\n"
    "E10IPoRlujNxiAKenP8F+dl0HLMurFlJbXCunRujPOTJBhM+4gpLCLBcdvO5VBfe\n"
    "MuOhhI21gCeW2udEcqwhJvjGR9eCjICV8V8QPFcaKNK+ufUO4Jm+QG2Ik5XNtKNy\n"
    "rWpWXXpOz8WHVjVcTaoqRMtMP/ABPACrFusN7D3HuPREKJ/WY2nNedlVS0bbLLBS\n"
    "G9JsGR6bAgMBAAECggEAPIJ0RCai5JzpX8WKjNZRBv/56rDYpmmE4B7u3OD0FgJb\n"
    "r/jtMLiY5WbAstWcHvvrqiFhFmaih/+/Hs0dhnH+7DPigZoBYkxVNrztPIf9XzLi\n"
    "LurA0mvpX1KEH0ipE3WSPOw8TvjMEH4HJMUa48ROzcuUIJa/YVkGWlJeOHAk2Pcn\n"
    "NSJ+64tl2USukV24pEqEtr3vN/ALqPiiqI60JWKfLtqus7U+pzh6r6TkT7yBUPEX\n"
    "wIonT/Lr/RIc1ThiLvtrUy4OE9tluSyV9ExiillIBtCke7XpEKABk5ix8/D0t8zW\n"
    "yUBLzssJyKPnVy9vg589W9/j4tgJRDpzpUzAReEr4QKBgQD2XAjMQm4S51xUv0Wz\n"
    "fM6BizuXBCOfIIvGJ2tGyiIHdbuDrRhlFe6vfNkwmKDlQFrPMX2jxHRkfhkB/FGG\n"
    "sIVr6fTLRnP19Jp4w95z5j7y07cH9WvXSa1CuYdK5RzZ8YFFWV1ziitf2/8A68UB\n"
    "nASHX95MVUkY+gGt/mab28rysQKBgQDvdL0jbshD6lOs0oNHSXmGBebdXf1DpyIl\n"
    "RtU6gpSiC447D8xhejtsZyPoJvm+uL/OrHfHs3Z87Rq4kPE1mLhqtSO7lBU3raFQ\n"
    "DYxZwPFgCxX0SxXWmsFWHadyf9FNqAz8pyuu9Lk6GM4blVbUSUt8jliJynEA2J5Y\n"
    "Fygqdc4BCwKBgBZzBIo4c3ddhdhjJaLZeKftXBzCz8wsVxBTfz8QJFGxtMim+VYc\n"
    "zYdIRTJcdizt1FiVFfHacRDHPNglefhgFYhj5V6wqNh81aazko3VKV9PU5pyDsWr\n"
    "fRJbfayhfCOQEkuTfSSOLq2pim83DNi8stzzK3qhOuv/vC9ywz7opHHBAoGBAIHx\n"
    "K6JKv8p7IqUqJ6tLp/KeyUVfd8x6qgDoi1WQ/u9grfJHBHXxSsXswoN8gxKIVy3k\n"
    "UavBK49na5S0svCOy6S8X4OvPERWqK80avFZzqJ74ZIMHPG0US5WMUPlMMOfakzA\n"
    "uufaTZnFVDOLuu7AR4J0DH/Zp7D53BOZnWZNP1k5AoGALu2Y16oRfp0NT/wu0aFV\n"
    "akHMWIkHbpV8hz+JoAEKLm+JJf4dJov/zDYrtQqPT2SFUvBn6+GoyE6rn0NN+x81\n"
    "/xiRPMKCJseHg2QMR5uluXtcg8saGe9KOWm+3sOs/cCoIj+1vfeFVK8Wzm397J7P\n"
    "nbusgC5gCqE88cucFgsJSfA=\n"
    "-----END PRIVATE KEY-----\n";
static const char rsa_public[] =
    "-----BEGIN PUBLIC KEY-----\n"
    "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA5nBD7rpDI4kkHTNAnKBz\n"
    "KMo1FlcS7RDBLG57vDj1nbTXneMwDxS/CWlHS1JLA2g+zpUxquAxuY074kBq6/R6\n"
    "A/BzR+cr/h8VXOb+QF8dhEQIiSuJuVmneg4u8gsLFZg4kM812p5LnmKuehNdCD6E\n"
    "ZbozcYgCnpz/BfnZdByzLqxZSW1wrp0bozzkyQYTPuIKSwiwXHbzuVQX3jLjoYSN\n"
    "tYAnltrnRHKsISb4xkfXgoyAlfFfEDxXGijSvrn1DuCZvkBtiJOVzbSjcq1qVl16\n"
    "Ts/Fh1Y1XE2qKkTLTD/wATwAqxbrDew9x7j0RCif1mNpzXnZVUtG2yywUhvSbBke\n"
    "mwIDAQAB\n"
    "-----END PUBLIC KEY-----\n";
static const char ec_private[] =
    "-----BEGIN EC PRIVATE KEY-----\n"
    "MHcCAQEEIErvyDkETZNbP5Kv8ZcbPu6HEdwHnMEd9auYSdoybiYooAoGCCqGSM49\n"
    "AwEHoUQDQgAE1jm9NVfsuf70ltRfTxJz2k9C97VdZlZ76I3uWo6S1Zp2coZpWBX2\n"
    "f+eIKNp7Tx76810AqSPzgCSC8AwvlfDmZg==\n"
    "-----END EC PRIVATE KEY-----\n";
static const char ec_public[] = "-----BEGIN PUBLIC KEY-----\n"
                                "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE1jm9NVfsuf70ltRfTxJz2k9C97Vd\n"
                                "ZlZ76I3uWo6S1Zp2coZpWBX2f+eIKNp7Tx76810AqSPzgCSC8AwvlfDmZg==\n"
                                "-----END PUBLIC KEY-----\n";
static const char hmac_secret[] = "Ba4fQqUEs9Hup+N3v7Sa+4aWtHMxV12ggFdDPVpI3OY=\n";

#define ETCD_TOKENS_MADE_S 1795900800 /* about then; they ended ten minutes later */
static const char etcd_rs256[] =
    "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJleHAiOjE3OTU5MDEzOTUsInJldmlzaW9uIjozLCJ"
    "1c2VybmFtZSI6InJvb3QifQ.axRcW0VDit210gs61AD_13pz0q2F5xjnk7PtgAsFzQyYwb4I0MGWsx_x"
    "r19gez5JAULyFZCairJs4b36Crf5uY9Iyf7sSBifuOyo4pRV8vDQdbOcuVvNrC-z0D2Ri-Ed_Jwrz1J9"
    "AQxo3qgRAxh6Z07yajczMAX4lNIjuWblSRCQjyDxX6yFKuFZQo36_V-BOAHctYusp9TSlIrYQ663vD_B"
    "p116jCHVVXS1g1AshJ-EkGB11Q5luqxVjK4HXMw9x1w8nhm1uLyDk5RT4R93N2BW05Dh4kn7CLwBEJ3-"
    "wBL84OkB20CUbRCw-bRF1nv8dqZBkeoddKYcpCbhpNNL8g";
static const char etcd_es256[] =
    "eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCJ9.eyJleHAiOjE3OTU5MDEzOTYsInJldmlzaW9uIjozLCJ"
    "1c2VybmFtZSI6InJvb3QifQ.EaL-xeaIkARMSeEnwb0a5uDWpsVVOt35gX0LyfsOhFGf30AyUloRWCJe"
    "lsuJSMCIXTYmAKVkZrHaJw_7jz7qyw";
static const char etcd_ps384[] =
    "eyJhbGciOiJQUzM4NCIsInR5cCI6IkpXVCJ9.eyJleHAiOjE3OTU5MDEzOTgsInJldmlzaW9uIjozLCJ"
    "1c2VybmFtZSI6InJvb3QifQ.0RPwBmY4twHJpAUVTIxniXzOS29zTEF1zmw2QDhNAsSR54p6Bx3n8ptV"
    "mKuCER3_3wAinEyR_8xB7npyLSz-nOaEEXZu18crSzuROHyBzngoc-dHu9kJfb5ZShAMG6_raumOGfyB"
    "yeLUy5DmCOCTUVEBBDjVJVQnLAHOYLC5tGkO27YsM1I56x2wf79iX3ui58ev9zYHlcFX7yXPW9n5tnr6"
    "9g0C9CujAdlw44riL6i8keg_EtOTvEols00m8vl8m9vvgrHO1bG91KNStf8mWBFqQ5v3HLAzsDepenME"
    "Uz5RkXU72L04j1sqvdbAgqap6C38glEJrt2d2ililmfL_g";
static const char etcd_hs256[] =
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJleHAiOjE3OTU5MDE0MDAsInJldmlzaW9uIjozLCJ"
    "1c2VybmFtZSI6InJvb3QifQ.IBwQ2HsdH5E5bbec5uUxd1mk6JrdpvyHH-W0w8iV1m4";

#endif
