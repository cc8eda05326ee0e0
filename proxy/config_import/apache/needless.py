"""Directives of Apache that need no counterpart, and why others have none. Pure."""

from __future__ import annotations

from ..word_lists import words

NEEDLESS = frozenset(
    words(
        """
    acceptpathinfo addcharset adddefaultcharset addencoding addhandler addicon
    addiconbyencoding addiconbytype addlanguage addoutputfilterbytype addtype allowoverride
    allowoverridelist browsermatch browsermatchnocase contentdigest customlog defaulticon
    deflatebuffersize deflatecompressionlevel deflatefilternote deflatememlevel
    deflatewindowsize directoryslash documentroot enablemmap enablesendfile errorlog
    errorlogformat extendedstatus fileetag forcelanguagepriority gracefulshutdowntimeout
    h2direct h2maxsessionstreams h2push h2earlyhints h2upgrade headername hostnamelookups
    indexignore indexoptions indexorderdefault indexstylesheet addalt addaltbyencoding
    addaltbytype adddescription keepalive keepalivetimeout languagepriority
    limitinternalrecursion limitrequestfields limitrequestfieldsize limitrequestline
    listenbacklog loadmodule logformat loglevel maxclients maxconnectionsperchild
    maxkeepaliverequests maxmemfree maxrequestsperchild maxrequestworkers maxspareservers
    maxsparethreads mergeslashes minspareservers minsparethreads mutex namevirtualhost
    options pidfile protocols protocolshonororder proxypassreverse
    proxypassreversecookiepath proxypassreversecookiedomain proxyrequests proxyvia
    proxyaddheaders proxyiobuffersize proxyreceivebuffersize proxybadheader readmename
    regexdefaultoptions requestreadtimeout rlimitcpu rlimitmem rlimitnproc scoreboardfile
    scriptsock sendbuffersize serveradmin serverlimit servername serversignature serverpath
    servertokens setenvif setenvifnocase setoutputfilter sslciphersuite sslcompression
    ssloptions sslhonorcipherorder sslinsecurerenegotiation sslopensslconfcmd sslprotocol
    sslproxyciphersuite sslproxyengine sslproxyprotocol sslrandomseed sslsessioncache
    sslsessioncachetimeout sslsessiontickets sslusestapling sslstaplingcache
    sslstaplingresponsemaxage sslstaplingrespondertimeout sslstaplingreturnrespondererrors
    sslrequiressl
    sslpassphrasedialog sslstrictsnivhostcheck startservers threadlimit threadsperchild
    threadstacksize timeout traceenable typesconfig unsetenv usecanonicalname
    usecanonicalphysicalport xbithack sslengine serverroot coredumpdirectory accessfilename
    defaultruntimedir httpprotocoloptions removehandler removetype removeencoding
    mimemagicfile passenv setenv transferlog logiotrackttfb brotlicompressionquality
    filterdeclare filterprovider filterchain addoutputfilter addinputfilter proxyset
    balancermember proxyfcgibackendtype proxyfcgisetenvif sslproxycheckpeercn
    sslproxycheckpeername sslproxycheckpeerexpire expiresactive defaulttype cgipassauth
    rewriteoptions
    """
    )
)

# With these values alone. A path's %2F is no slash here, and goes on as it came.
NEEDLESS_SO = frozenset({("allowencodedslashes", "nodecode"), ("allowencodedslashes", "off")})

WHY = {
    "if": "expressions are a filter in Python here (use)",
    "scriptalias": "CGI has no counterpart; see fastcgi",
    "cacheenable": "answers of backends are not kept here",
    "cacheroot": "answers of backends are not kept here",
    "substitute": "bodies are changed by a filter in Python (use)",
    "dav": "files are not written here; put a WebDAV server behind it",
    "wsgiscriptalias": "start the app with a server of its own, and name it in backend",
    "wsgidaemonprocess": "start the app with a server of its own, and name it in backend",
    "wsgiprocessgroup": "start the app with a server of its own, and name it in backend",
    "passengerapproot": "start the app with a server of its own, and name it in backend",
    "php_value": "that is said in the interpreter's own configuration",
    "php_admin_value": "that is said in the interpreter's own configuration",
    "php_flag": "that is said in the interpreter's own configuration",
    "php_admin_flag": "that is said in the interpreter's own configuration",
    "secruleengine": "requests are looked into by a filter in Python (use)",
    "limit": "who may do what is not told apart by method here; see methods",
    "limitexcept": "who may do what is not told apart by method here; see methods",
    "sslrequire": "expressions are a filter in Python here (use)",
    "userdir": "folders of users have no counterpart",
    "virtualdocumentroot": "a folder for each name is treehouse mode: sites_dir",
}
