"""The table of `media_types`: for each top-level type, its subtypes with their file extensions.

Facts from the registry of IANA and from the tables that nginx (conf/mime.types) and Apache httpd
(docs/conf/mime.types) ship; where they differ, IANA's name, unless clients are known to want
another. Left out are types that mean no more than application/octet-stream, and scripts for a
server (.php), which are never to be shown by their source's name. Data only.
"""

from __future__ import annotations

TABLE = {
    "application": """
        andrew-inset=ez appinstaller=appinstaller applixware=aw appx=appx appxbundle=appxbundle
        atom+xml=atom atomcat+xml=atomcat atomdeleted+xml=atomdeleted atomsvc+xml=atomsvc
        atsc-dwd+xml=dwd atsc-held+xml=held atsc-rsat+xml=rsat automationml-aml+xml=aml
        automationml-amlx+zip=amlx bdoc=bdoc calendar+xml=xcs ccxml+xml=ccxml cdfx+xml=cdfx
        cdmi-capability=cdmia cdmi-container=cdmic cdmi-domain=cdmid cdmi-object=cdmio
        cdmi-queue=cdmiq cpl+xml=cpl cu-seeme=cu cwl=cwl dash+xml=mpd dash-patch+xml=mpp
        davmount+xml=davmount dicom=dcm docbook+xml=dbk dssc+der=dssc dssc+xml=xdssc
        ecmascript=ecma emma+xml=emma emotionml+xml=emotionml epub+zip=epub exi=exi express=exp
        fdf=fdf fdt+xml=fdt font-tdpfr=pfr geo+json=geojson gml+xml=gml gpx+xml=gpx gxf=gxf
        gzip=gz,tgz hjson=hjson hyperstudio=stk inkml+xml=ink,inkml ipfix=ipfix its+xml=its
        java-archive=ear,jar,war java-serialized-object=ser java-vm=class
        json=har,json,map,topojson json5=json5 jsonl=jsonl jsonml+json=jsonml ld+json=jsonld
        lgr+xml=lgr lost+xml=lostxml mac-binhex40=hqx mac-compactpro=cpt mads+xml=mads
        manifest+json=webmanifest marc=mrc marcxml+xml=mrcx mathematica=ma,mb,nb
        mathml+xml=mathml mbox=mbox media-policy-dataset+xml=mpf mediaservercontrol+xml=mscml
        metalink+xml=metalink metalink4+xml=meta4 mets+xml=mets mmt-aei+xml=maei
        mmt-usd+xml=musd mods+xml=mods mp21=m21,mp21 mp4=m4p,mp4s msix=msix
        msixbundle=msixbundle msword=doc,dot mxf=mxf n-quads=nq n-triples=nt oda=oda
        oebps-package+xml=opf ogg=ogx omdoc+xml=omdoc
        onenote=one,onea,onepkg,onetmp,onetoc,onetoc2 oxps=oxps p2p-overlay+xml=relo
        patch-ops-error+xml=xer pdf=pdf pgp-encrypted=pgp pgp-signature=asc,sig pics-rules=prf
        pkcs10=csr,p10 pkcs7-mime=p7c,p7m pkcs7-signature=p7s pkcs8=p8 pkix-attr-cert=ac
        pkix-cert=cer pkix-crl=crl pkix-pkipath=pkipath pkixcmp=pki postscript=ai,eps,ps
        provenance+xml=provx prs.cww=cww prs.xsf+xml=xsf pskc+xml=pskcxml raml+yaml=raml
        rdf+xml=owl,rdf reginfo+xml=rif relax-ng-compact-syntax=rnc resource-lists+xml=rl
        resource-lists-diff+xml=rld route-apd+xml=rapd route-s-tsid+xml=sls route-usd+xml=rusd
        rpki-ghostbusters=gbr rpki-manifest=mft rpki-roa=roa rsd+xml=rsd rss+xml=rss rtf=rtf
        sbml+xml=sbml scvp-cv-request=scq scvp-cv-response=scs scvp-vp-request=spq
        scvp-vp-response=spp sdp=sdp senml+xml=senmlx sensml+xml=sensmlx
        set-payment-initiation=setpay set-registration-initiation=setreg shf+xml=shf
        sieve=sieve,siv smil+xml=smi,smil sparql-query=rq sparql-results+xml=srx sql=sql
        srgs=gram srgs+xml=grxml sru+xml=sru ssdl+xml=ssdl ssml+xml=ssml swid+xml=swidtag
        tei+xml=tei,teicorpus thraud+xml=tfi timestamped-data=tsd toml=toml trig=trig
        ttml+xml=ttml ubjson=ubj urc-ressheet+xml=rsheet urc-targetdesc+xml=td
        vnd.adobe.air-application-installer-package+zip=air vnd.adobe.formscentral.fcdt=fcdt
        vnd.adobe.fxp=fxp,fxpl vnd.adobe.xdp+xml=xdp vnd.amazon.ebook=azw
        vnd.android.package-archive=apk vnd.apache.arrow.file=arrow vnd.apache.parquet=parquet
        vnd.apple.installer+xml=mpkg vnd.apple.keynote=key vnd.apple.mpegurl=hls,m3u8
        vnd.apple.numbers=numbers vnd.apple.pages=pages vnd.apple.pkpass=pkpass
        vnd.chemdraw+xml=cdxml vnd.curl.car=car vnd.curl.pcurl=pcurl
        vnd.debian.binary-package=deb vnd.geogebra.file=ggb vnd.geogebra.slides=ggs
        vnd.geogebra.tool=ggt vnd.google-earth.kml+xml=kml vnd.google-earth.kmz=kmz
        vnd.kde.karbon=karbon vnd.kde.kchart=chrt vnd.kde.kformula=kfo vnd.kde.kivio=flw
        vnd.kde.kontour=kon vnd.kde.kpresenter=kpr,kpt vnd.kde.kspread=ksp vnd.kde.kword=kwd,kwt
        vnd.lotus-1-2-3=123 vnd.lotus-approach=apr vnd.lotus-freelance=pre vnd.lotus-notes=nsf
        vnd.lotus-screencam=scm vnd.lotus-wordpro=lwp vnd.mapbox-vector-tile=mvt vnd.mif=mif
        vnd.mozilla.xul+xml=xul vnd.ms-artgalry=cil vnd.ms-cab-compressed=cab
        vnd.ms-excel=xla,xlc,xlm,xls,xlt,xlw vnd.ms-excel.addin.macroenabled.12=xlam
        vnd.ms-excel.sheet.binary.macroenabled.12=xlsb vnd.ms-excel.sheet.macroenabled.12=xlsm
        vnd.ms-excel.template.macroenabled.12=xltm vnd.ms-fontobject=eot vnd.ms-htmlhelp=chm
        vnd.ms-ims=ims vnd.ms-lrm=lrm vnd.ms-officetheme=thmx vnd.ms-outlook=msg
        vnd.ms-pki.seccat=cat vnd.ms-powerpoint=pot,pps,ppt
        vnd.ms-powerpoint.addin.macroenabled.12=ppam
        vnd.ms-powerpoint.presentation.macroenabled.12=pptm
        vnd.ms-powerpoint.slide.macroenabled.12=sldm
        vnd.ms-powerpoint.slideshow.macroenabled.12=ppsm
        vnd.ms-powerpoint.template.macroenabled.12=potm vnd.ms-project=mpt
        vnd.ms-visio.viewer=vdx vnd.ms-word.document.macroenabled.12=docm
        vnd.ms-word.template.macroenabled.12=dotm vnd.ms-works=wcm,wdb,wks,wps vnd.ms-wpl=wpl
        vnd.ms-xpsdocument=xps vnd.nokia.n-gage.data=ngdat
        vnd.nokia.n-gage.symbian.install=n-gage vnd.nokia.radio-preset=rpst
        vnd.nokia.radio-presets=rpss vnd.oasis.opendocument.chart=odc
        vnd.oasis.opendocument.chart-template=otc vnd.oasis.opendocument.database=odb
        vnd.oasis.opendocument.formula=odf vnd.oasis.opendocument.formula-template=odft
        vnd.oasis.opendocument.graphics=odg vnd.oasis.opendocument.graphics-template=otg
        vnd.oasis.opendocument.image=odi vnd.oasis.opendocument.image-template=oti
        vnd.oasis.opendocument.presentation=odp vnd.oasis.opendocument.presentation-template=otp
        vnd.oasis.opendocument.spreadsheet=ods vnd.oasis.opendocument.spreadsheet-template=ots
        vnd.oasis.opendocument.text=odt vnd.oasis.opendocument.text-master=odm
        vnd.oasis.opendocument.text-template=ott vnd.oasis.opendocument.text-web=oth
        vnd.openxmlformats-officedocument.presentationml.presentation=pptx
        vnd.openxmlformats-officedocument.presentationml.slide=sldx
        vnd.openxmlformats-officedocument.presentationml.slideshow=ppsx
        vnd.openxmlformats-officedocument.presentationml.template=potx
        vnd.openxmlformats-officedocument.spreadsheetml.sheet=xlsx
        vnd.openxmlformats-officedocument.spreadsheetml.template=xltx
        vnd.openxmlformats-officedocument.wordprocessingml.document=docx
        vnd.openxmlformats-officedocument.wordprocessingml.template=dotx vnd.palm=oprc,pqa
        vnd.rar=rar vnd.recordare.musicxml=mxl vnd.recordare.musicxml+xml=musicxml
        vnd.rn-realmedia=rm vnd.rn-realmedia-vbr=rmvb vnd.sqlite3=sqlite,sqlite3
        vnd.stardivision.calc=sdc vnd.stardivision.draw=sda vnd.stardivision.impress=sdd
        vnd.stardivision.math=smf vnd.stardivision.writer=sdw,vor
        vnd.stardivision.writer-global=sgl vnd.sun.wadl+xml=wadl vnd.sun.xml.calc=sxc
        vnd.sun.xml.calc.template=stc vnd.sun.xml.draw=sxd vnd.sun.xml.draw.template=std
        vnd.sun.xml.impress=sxi vnd.sun.xml.impress.template=sti vnd.sun.xml.math=sxm
        vnd.sun.xml.writer=sxw vnd.sun.xml.writer.global=sxg vnd.sun.xml.writer.template=stw
        vnd.symbian.install=sis,sisx vnd.tcpdump.pcap=cap,dmp,pcap
        vnd.visio=vsd,vsdx,vss,vst,vsw,vtx vnd.visionary=vis vnd.wap.wbxml=wbxml
        vnd.wap.wmlc=wmlc vnd.wap.wmlscriptc=wmlsc vnd.wolfram.player=nbp voicexml+xml=vxml
        wasm=wasm watcherinfo+xml=wif widget=wgt winhlp=hlp wsdl+xml=wsdl wspolicy+xml=wspolicy
        x-7z-compressed=7z x-abiword=abw x-ace-compressed=ace x-apple-diskimage=dmg x-arj=arj
        x-authorware-bin=aab,u32,vox,x32 x-authorware-map=aam x-authorware-seg=aas x-bcpio=bcpio
        x-bittorrent=torrent x-blender=blend x-blorb=blb,blorb x-bzip=bz x-bzip2=boz,bz2,tbz2
        x-cbr=cb7,cba,cbr,cbt,cbz x-cdlink=vcd x-cfs-compressed=cfs x-chat=chat x-chess-pgn=pgn
        x-chrome-extension=crx x-cocoa=cco x-compress=z x-conference=nsc x-cpio=cpio x-csh=csh
        x-debian-package=udeb x-dgc-compressed=dgc
        x-director=cct,cst,cxt,dcr,dir,dxr,fgd,swa,w3d x-doom=wad x-dtbncx+xml=ncx
        x-dtbook+xml=dtb x-dtbresource+xml=res x-dvi=dvi x-envoy=evy x-eva=eva x-font-bdf=bdf
        x-font-ghostscript=gsf x-font-linux-psf=psf x-font-pcf=pcf x-font-snf=snf
        x-font-type1=afm,pfa,pfb,pfm x-freearc=arc x-futuresplash=spl x-gca-compressed=gca
        x-glulx=ulx x-gnumeric=gnumeric x-gramps-xml=gramps x-gtar=gtar x-hdf=hdf
        x-install-instructions=install x-ipynb+json=ipynb x-iso9660-image=iso
        x-java-archive-diff=jardiff x-java-jnlp-file=jnlp x-keepass2=kdbx x-latex=latex
        x-lua-bytecode=luac x-lz4=lz4 x-lzh-compressed=lha,lzh x-lzip=lz x-lzma=lzma
        x-makeself=run x-mie=mie x-mobipocket-ebook=mobi x-ms-application=application
        x-ms-shortcut=lnk x-ms-wmd=wmd x-ms-wmz=wmz x-ms-xbap=xbap x-msaccess=mdb x-msbinder=obd
        x-mscardfile=crd x-msclip=clp x-msdownload=bat,com,dll,exe,msi x-msmediaview=m13,m14,mvb
        x-msmetafile=emz x-msmoney=mny x-mspublisher=pub x-msschedule=scd x-msterminal=trm
        x-mswrite=wri x-ndjson=ndjson x-netcdf=cdf,nc x-ns-proxy-autoconfig=pac x-nzb=nzb
        x-perl=pl,pm x-pilot=pdb,prc x-pkcs12=p12,pfx x-pkcs7-certificates=p7b,spc
        x-pkcs7-certreqresp=p7r x-research-info-systems=ris x-rpm=rpm x-sea=sea x-sh=sh
        x-shar=shar x-shockwave-flash=swf x-silverlight-app=xap x-stuffit=sit x-stuffitx=sitx
        x-subrip=srt x-sv4cpio=sv4cpio x-sv4crc=sv4crc x-t3vm-image=t3 x-tads=gam x-tar=tar
        x-tcl=tcl,tk x-tex=tex x-tex-tfm=tfm x-texinfo=texi,texinfo x-ustar=ustar
        x-virtualbox-hdd=hdd x-virtualbox-ova=ova x-virtualbox-ovf=ovf x-virtualbox-vbox=vbox
        x-virtualbox-vbox-extpack=vbox-extpack x-virtualbox-vdi=vdi x-virtualbox-vhd=vhd
        x-virtualbox-vmdk=vmdk x-wais-source=src x-web-app-manifest+json=webapp
        x-webarchive=webarchive x-x509-ca-cert=crt,der,pem x-xfig=fig x-xpinstall=xpi
        x-xz=txz,xz x-zmachine=z1,z2,z3,z4,z5,z6,z7,z8 xaml+xml=xaml xcap-att+xml=xav
        xcap-caps+xml=xca xcap-diff+xml=xdf xcap-el+xml=xel xcap-ns+xml=xns xenc+xml=xenc
        xfdf=xfdf xhtml+xml=xht,xhtml xliff+xml=xlf xml=rng,xsd xml-dtd=dtd xop+xml=xop
        xproc+xml=xpl xslt+xml=xslt xspf+xml=xspf xv+xml=mxml,xhvml,xvm,xvml yaml=yaml,yml
        yang=yang yin+xml=yin zip=zip zip+dotlottie=lottie zstd=tzst,zst
    """,
    "audio": """
        3gpp=3gpp aac=aac,adts adpcm=adp amr=amr basic=au,snd flac=flac matroska=mka
        midi=kar,mid,midi,rmi mobile-xmf=mxmf mp4=cmfa,m4a,m4b,m4r,mp4a
        mpeg=m2a,m3a,mp2,mp2a,mp3,mpga ogg=oga,ogg,opus,spx s3m=s3m silk=sil vnd.dts=dts
        vnd.dts.hd=dtshd vnd.ms-playready.media.pya=pya vnd.nuera.ecelp4800=ecelp4800
        vnd.nuera.ecelp7470=ecelp7470 vnd.nuera.ecelp9600=ecelp9600 vnd.rip=rip wav=wav
        webm=weba x-aiff=aif,aifc,aiff x-caf=caf x-mpegurl=m3u x-ms-wax=wax x-ms-wma=wma
        x-pn-realaudio=ra,ram x-pn-realaudio-plugin=rmp x-scpls=pls xm=xm
    """,
    "chemical": """
        x-cdx=cdx x-cif=cif x-cmdf=cmdf x-cml=cml x-csml=csml x-xyz=xyz
    """,
    "font": """
        collection=ttc otf=otf ttf=ttf woff=woff woff2=woff2
    """,
    "image": """
        aces=exr apng=apng avci=avci avcs=avcs avif=avif,avifs bmp=bmp,dib cgm=cgm
        dicom-rle=drle dpx=dpx emf=emf fits=fits g3fax=g3 gif=gif heic=heic heic-sequence=heics
        heif=heif heif-sequence=heifs hej2k=hej2 ief=ief jaii=jaii jais=jais jls=jls
        jp2=jp2,jpg2 jpeg=jfif,jpe,jpeg,jpg,pjp,pjpeg jph=jph jphc=jhc jpm=jpgm,jpm jpx=jpf,jpx
        jxl=jxl jxr=jxr jxra=jxra jxrs=jxrs jxs=jxs jxsc=jxsc jxsi=jxsi jxss=jxss ktx=ktx
        ktx2=ktx2 png=png sgi=sgi svg+xml=svg,svgz t38=t38 tiff=tif,tiff tiff-fx=tfx
        vnd.adobe.photoshop=psd vnd.djvu=djv,djvu vnd.dwg=dwg vnd.dxf=dxf
        vnd.microsoft.icon=cur,ico vnd.ms-dds=dds vnd.ms-modi=mdi vnd.ms-photo=wdp
        vnd.wap.wbmp=wbmp webp=webp wmf=wmf x-3ds=3ds x-adobe-dng=dng x-cmu-raster=ras x-cmx=cmx
        x-freehand=fh,fh4,fh5,fh7,fhc x-jng=jng x-mrsid-image=sid x-pict=pct,pic
        x-portable-anymap=pnm x-portable-bitmap=pbm x-portable-graymap=pgm x-portable-pixmap=ppm
        x-rgb=rgb x-tga=tga x-xbitmap=xbm x-xpixmap=xpm x-xwindowdump=xwd
    """,
    "message": """
        rfc822=eml
    """,
    "model": """
        3mf=3mf gltf+json=gltf gltf-binary=glb iges=iges,igs jt=jt mesh=mesh,msh,silo mtl=mtl
        obj=obj step=210,p21,step,stp,stpnc step+xml=stpx step+zip=stpz step-xml+zip=stpxz
        stl=stl u3d=u3d vnd.collada+xml=dae vnd.usda=usda vnd.usdz+zip=usdz vrml=vrml,wrl
        x3d+binary=x3dbz x3d+fastinfoset=x3db x3d+vrml=x3dvz x3d+xml=x3d,x3dz x3d-vrml=x3dv
    """,
    "multipart": """
        related=mht,mhtml
    """,
    "text": """
        asciidoc=adoc,asciidoc cache-manifest=appcache,manifest calendar=ics,ifb
        coffeescript=coffee,litcoffee css=css csv=csv html=htm,html,shtml jade=jade
        javascript=cjs,js,mjs jsx=jsx less=less markdown=markdown,md mathml=mml mdx=mdx n3=n3
        plain=cfg,conf,def,in,ini,list,log,md5,nfo,properties,sha1,sha256,sha512,text,tsx,txt
        richtext=rtx sgml=sgm,sgml shex=shex slim=slim,slm spdx=spdx stylus=styl,stylus
        tab-separated-values=tsv troff=man,me,ms,roff,t,tr turtle=ttl uri-list=uri,uris,urls
        vcard=vcard,vcf vnd.curl=curl vnd.curl.dcurl=dcurl vnd.curl.mcurl=mcurl
        vnd.curl.scurl=scurl vnd.dvb.subtitle=sub vnd.graphviz=gv
        vnd.sun.j2me.app-descriptor=jad vnd.wap.wml=wml vnd.wap.wmlscript=wmls vtt=vtt wgsl=wgsl
        x-asm=asm,s x-bibtex=bib x-c=c,cc,cpp,cxx,dic,h,hh x-component=htc x-diff=diff,patch
        x-fortran=f,f77,f90,for x-go=go x-handlebars-template=hbs x-java-source=java x-lua=lua
        x-markdown=mkd x-opml=opml x-org=org x-pascal=p,pas x-processing=pde x-python=py
        x-rst=rst x-ruby=rb x-rust=rs x-sass=sass x-scss=scss x-setext=etx x-sfv=sfv
        x-ssa=ass,ssa x-suse-ymp=ymp x-uuencode=uu x-vcalendar=vcs xml=xml xsl=xsl
    """,
    "video": """
        3gpp=3gp 3gpp2=3g2 h261=h261 h263=h263 h264=h264 iso.segment=m4s jpeg=jpgv
        matroska=mks,mkv matroska-3d=mk3d mj2=mj2,mjp2 mp2t=m2t,m2ts,mts,ts
        mp4=cmfv,f4v,m4v,mp4,mp4v,mpg4 mpeg=m1v,m2v,mpe,mpeg,mpg ogg=ogv quicktime=mov,qt
        vnd.dvb.file=dvb vnd.mpegurl=m4u,mxu vnd.ms-playready.media.pyv=pyv vnd.vivo=viv
        webm=webm x-fli=fli x-flv=flv x-mng=mng x-ms-asf=asf,asx x-ms-vob=vob x-ms-wm=wm
        x-ms-wmv=wmv x-ms-wmx=wmx x-ms-wvx=wvx x-msvideo=avi x-sgi-movie=movie x-smv=smv
    """,
}
